"""The locks of apt and dpkg: who holds one, and waiting until it is free."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

from agent.errors import ResourceError

LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/cache/apt/archives/lock",
    "/var/lib/apt/lists/lock",
)
LIMIT = 600.0
_NAMES = {"dpkg": "the dpkg lock", "archives": "the lock of apt's downloads", "lists": "the lock of apt's lists"}
_PAUSE = 0.2
_FLOCK = struct.Struct("hhqqi4x")


def holder(path: str) -> int | None:
    """The process that holds the POSIX lock of a file (0 where it cannot be seen from here), or None."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    finally:
        os.close(fd)
    return None if kind == fcntl.F_UNLCK else max(pid, 0)


def who(pid: int) -> str:
    """A process in words: its name and number."""
    try:
        return f"{Path(f'/proc/{pid}/comm').read_text().strip()} (pid {pid})"
    except OSError:
        return f"another process (pid {pid})" if pid else "another process"


def is_waited_for() -> bool:
    """Whether somebody waits for a lock of flock(2) that this process holds (/proc/locks in proc_locks(5)).

    Other runs ask again and again instead: who waits is a script of the agent's own package, being upgraded or removed.
    """
    held: set[str] = set()
    for line in Path("/proc/locks").read_text().splitlines():
        number, *words = line.split()
        if words[0] == "->" and number in held:
            return True
        if words[0] == "FLOCK" and words[3] == str(os.getpid()):
            held.add(number)
    return False


def wait_for_locks(progress: Callable[[str], None], limit: float) -> None:
    """Wait until nobody holds any of `LOCKS`.

    Raises ResourceError after `limit` seconds, and at once where whoever holds one waits for this run to end.
    """
    deadline, told = time.monotonic() + limit, ""
    while held := next(((path, pid) for path in LOCKS if (pid := holder(path)) is not None), None):
        path, pid = held
        text = f"{_NAMES[Path(path).parent.name]} held by {who(pid)}"
        if is_waited_for():
            why = "which waits for this run to end: state-agent is being replaced"
            raise ResourceError(f"{text}, {why}", hint="let it finish, and apply again")
        if time.monotonic() >= deadline:
            hint = "let it finish, or see why it does not, and apply again"
            raise ResourceError(f"gave up after waiting {limit:g} s for {text}", hint=hint)
        if text != told:
            progress(f"waiting for {text}")
            told = text
        time.sleep(_PAUSE)
