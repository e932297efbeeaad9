"""apt-get and its companions: run without ever asking, behind the locks of others, with progress."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from agent.errors import ResourceError
from agent.host.apt.locks import LIMIT, wait_for_locks
from agent.host.run import Result, failure, run

ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_MODE": "l",
    "APT_LISTCHANGES_FRONTEND": "none",
    "APT_LISTBUGS_FRONTEND": "none",
    "UCF_FORCE_CONFFOLD": "1",
    "PAGER": "cat",
    "TERM": "dumb",
}
# A conffile that was changed is kept; one that was not is replaced (dpkg(1), --force-confdef first).
KEEP_CONFFILES = ("--force-confdef", "--force-confold")
TIMEOUT = 1800.0
UPDATES = "/var/lib/dpkg/updates"

_OPTIONS = (
    "-y",
    "-q",
    *(word for option in KEEP_CONFFILES for word in ("-o", f"DPkg::Options::={option}")),
    *("-o", "Dpkg::Use-Pty=0"),
    *("-o", "APT::Get::AutomaticRemove=false"),
    *("-o", "APT::Color=0"),
)
# Said by apt-get, apt-mark, dpkg and debconf; a maintainer script that complains of another lock is no reason to wait.
_CONTENDED = re.compile(
    r"^E: (Could not get lock|Unable to lock|Unable to acquire)|frontend lock was locked by|^debconf: .* is locked by",
    re.MULTILINE,
)
_SIMULATED = re.compile(r"^(Inst|Remv|Purg) (\S+)", re.MULTILINE)


@dataclass
class Outcome:
    """How a transaction ended: apt's result, and what dpkg said of the packages that failed, by name."""

    result: Result
    failed: dict[str, str] = field(default_factory=dict)

    def about(self, name: str) -> str:
        """What was said while dpkg worked on a package that failed, or else the end of what apt and dpkg said."""
        out, err = self.result.stdout.splitlines(), self.result.stderr.splitlines()
        mark = f"dpkg: error processing package {name} "
        at = next((number for number, line in enumerate(err) if line.startswith(mark)), None)
        if at is None:
            said = [*out[-4:], *err[-12:]]
        else:
            begun = [number for number, line in enumerate(out) if re.match(rf"\w[\w ]* {re.escape(name)} \(", line)]
            said = [*out[begun[-1] :][:8], *err[max(at - 8, 0) : at + 2]] if begun else err[max(at - 12, 0) : at + 2]
        return "\n".join(line.rstrip() for line in said if line.strip())


class AptGet:
    """Runs apt-get, dpkg, apt-mark and debconf, each only when nobody else holds the locks."""

    def __init__(self, progress: Callable[[str], None], lock_limit: float | None = None) -> None:
        self._progress = progress
        self._lock_limit = LIMIT if lock_limit is None else lock_limit

    def run(self, command: Sequence[str], *, stdin: str = "", quiet: bool = False) -> Result:
        """Run one of apt's programs when the locks are free, and again where another one came between."""
        deadline = time.monotonic() + self._lock_limit
        while True:
            wait_for_locks(self._progress, max(deadline - time.monotonic(), 0.0))
            result = run(command, stdin=stdin, timeout=TIMEOUT, env=ENVIRONMENT, accept=None)
            if result.ended_well or not _CONTENDED.search(result.stderr):
                return result
            if time.monotonic() >= deadline:
                raise failure(command[0] if quiet else " ".join(command), result, quiet=quiet)
            time.sleep(1)

    def must(self, command: Sequence[str], *, stdin: str = "", quiet: bool = False) -> Result:
        """Like `run`; raises CommandFailed where the program fails."""
        result = self.run(command, stdin=stdin, quiet=quiet)
        if not result.ended_well:
            raise failure(command[0] if quiet else " ".join(command), result, quiet=quiet)
        return result

    def ready(self) -> None:
        """Wait for the locks, and finish what an interrupted dpkg left half done."""
        wait_for_locks(self._progress, self._lock_limit)
        if os.path.isdir(UPDATES) and any(name.isdigit() for name in os.listdir(UPDATES)):
            self._progress("finishing what an interrupted dpkg left (dpkg --configure -a)")
            self.run(["dpkg", *KEEP_CONFFILES, "--configure", "-a"])

    def update(self) -> str:
        """Fetch the lists of packages; gives what went wrong, as some sources may fail and others not."""
        self._progress("fetching the lists of packages (apt-get update)")
        result = self.run(["apt-get", *_OPTIONS, "update"])
        wrong = [line for line in result.stderr.splitlines() if line.startswith(("E:", "W:"))]
        return "\n".join(wrong[-6:])

    def simulate(self, words: Sequence[str]) -> list[tuple[str, str]]:
        """What apt-get would do, as pairs of `Inst`, `Remv` or `Purg` and a package.

        Raises ResourceError with apt's reason where it cannot.
        """
        result = run(["apt-get", *_OPTIONS, "-s", *words], timeout=TIMEOUT, env=ENVIRONMENT, accept=None)
        if result.ended_well:
            return _SIMULATED.findall(result.stdout)
        said = result.stderr.strip().splitlines()
        reasons = [line[3:] for line in said if line.startswith("E: ")] or ["apt-get cannot do it"]
        unmet = result.stdout.partition("The following packages have unmet dependencies:\n")[2]
        raise ResourceError(f"apt: {reasons[0]}", detail="\n".join([*unmet.splitlines()[:12], *reasons[1:]]))

    def transact(self, words: Sequence[str]) -> Outcome:
        """Run a transaction of apt-get to its end, whatever that is."""
        failed: dict[str, str] = {}
        with self._watched(failed) as pipe:
            result = self._transact(words, pipe)
        return Outcome(result, failed)

    def _transact(self, words: Sequence[str], pipe: int) -> Result:
        deadline = time.monotonic() + self._lock_limit
        while True:
            left = max(deadline - time.monotonic(), 0.0)
            wait_for_locks(self._progress, left)
            # apt itself waits for the dpkg locks only, not for those of its lists and downloads.
            own = ["-o", f"APT::Status-Fd={pipe}", "-o", f"DPkg::Lock::Timeout={int(left)}"]
            command = ["apt-get", *_OPTIONS, *own, *words]
            result = run(command, timeout=TIMEOUT, env=ENVIRONMENT, accept=None, pass_fds=[pipe])
            if result.ended_well or not _CONTENDED.search(result.stderr) or left == 0:
                return result
            time.sleep(1)

    @contextmanager
    def _watched(self, failed: dict[str, str]) -> Iterator[int]:
        """A pipe for APT::Status-Fd whose lines become progress, and errors of packages."""
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        thread = threading.Thread(target=self._follow, args=(reading, failed), daemon=True)
        thread.start()
        try:
            yield writing
        finally:
            os.close(writing)
            # A daemon that a maintainer script started may keep the pipe open for ever.
            thread.join(timeout=2)

    def _follow(self, reading: int, failed: dict[str, str]) -> None:
        told = ""
        with open(reading, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                kind, _, rest = line.rstrip("\n").partition(":")
                text = status_text(kind, rest)
                if kind == "pmerror":
                    name, message = split_status(rest)[::2]
                    failed[name] = message
                elif text and text != told:
                    self._progress(text)
                    told = text


def split_status(rest: str) -> tuple[str, str, str]:
    """Package, percentage and message of a line of APT::Status-Fd, whose package may carry an architecture."""
    found = re.fullmatch(r"(.*?):(\d+(?:\.\d+)?):(.*)", rest)
    return (found[1], found[2], found[3]) if found else (rest, "0", "")


def status_text(kind: str, rest: str) -> str:
    """A line of APT::Status-Fd in words, such as `installing postfix (45 %)`; nothing for what says nothing."""
    subject, percent, message = split_status(rest)
    if kind not in ("dlstatus", "pmstatus") or subject == "dpkg-exec":
        return ""
    words = re.sub(r" \([\w-]+\)$", "", message) if kind == "pmstatus" else message
    return f"{words[:1].lower()}{words[1:]} ({float(percent):.0f} %)" if words else ""
