"""Programs: argument lists, never a shell; a fixed locale; a time limit always.

What is to be seen line by line while it runs goes through `sh`; all else through `subprocess`, which starts a program
in a third of the time, with no threads, and takes 7 MB less of memory.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import CommandFailed, Missing

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_TIMEOUT = 300.0
_SHOWN_LINES = 12
_LONGEST_LINE = 500


@dataclass(frozen=True, slots=True)
class Result:
    """What a program left: its exit status (negative: the signal that ended it) and both outputs as text."""

    status: int
    stdout: str
    stderr: str
    pid: int = 0

    @property
    def ended_well(self) -> bool:
        """Whether the exit status is 0."""
        return self.status == 0


def find_program(name: str) -> str:
    """The absolute path of a program; raises Missing where there is none."""
    for folder in [""] if "/" in name else PATH.split(":"):
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    if "/" not in name:
        raise Missing(f"the program {name} is not installed", hint=f"looked in {PATH}")
    what = "is not an executable file" if os.path.lexists(name) else "does not exist"
    raise Missing(f"the program {name} {what}")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that programs get: little, and the same on every host."""
    base = {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": os.environ.get("HOME", "/root")}
    for name in ("TZ", "http_proxy", "https_proxy", "no_proxy"):
        if name in os.environ:
            base[name] = os.environ[name]
    return base | dict(extra or {})


def run(
    command: Sequence[str],
    *,
    stdin: str | bytes | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    user: str | None = None,
    accept: Sequence[int] | None = (0,),
    on_line: Callable[[str], Any] | None = None,
    pass_fds: Sequence[int] = (),
    quiet: bool = False,
) -> Result:
    """Run a program to its end.

    `accept` lists the exit statuses that are no error, None accepts all. `on_line` sees each line of stdout
    as it comes. `user` runs it as that user with its groups (setpriv(1)). `quiet` keeps its arguments and
    output out of errors, for what could show a secret.
    Raises Missing where the program is not installed, CommandFailed on any other status and on time-out.
    """
    words = [find_program(command[0]), *command[1:]]
    if user is not None and user != "root":
        words, env = as_user(user, words, env)
    if cwd is not None and not Path(cwd).is_dir():
        raise Missing(f"the folder {cwd} to run {command[0]} in does not exist")
    given = stdin.encode() if isinstance(stdin, str) else stdin or b""
    shown = command[0] if quiet else shlex.join(command)
    start = _Start(words, given, environment(env), cwd, tuple(pass_fds), shown)
    result = _whole(start, timeout) if on_line is None else _by_line(start, timeout, on_line)
    if accept is not None and result.status not in accept:
        raise failure(start.shown, result, quiet=quiet)
    return result


@dataclass(frozen=True, slots=True)
class _Start:
    """A program that is to be started, and how errors call it."""

    words: Sequence[str]
    stdin: bytes
    env: Mapping[str, str]
    cwd: str | None
    pass_fds: Sequence[int]
    shown: str

    def failed(self, why: str) -> CommandFailed:
        """The error where it cannot be started."""
        return CommandFailed(f"{self.shown} cannot be started" + (f": {why}" if why else ""))

    def overdue(self, timeout: float) -> CommandFailed:
        """The error where it took too long."""
        hint = "it was ended, with all it started"
        return CommandFailed(f"{self.shown} did not end within {timeout:g} s", hint=hint)


def _whole(start: _Start, timeout: float) -> Result:
    """Run a program in a session of its own, so that Ctrl-C does not end it, and take its output at the end."""
    import subprocess

    from agent.host.dialogue import Dialogue

    try:
        process = subprocess.Popen(
            start.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=start.env,
            cwd=start.cwd, pass_fds=start.pass_fds, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise start.failed(error.strerror or "") from None
    try:
        out, said = Dialogue(process, start.stdin).held(timeout)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise start.overdue(timeout) from None
    return Result(process.returncode, out.decode(errors="replace"), said.decode(errors="replace"), process.pid)


def _by_line(start: _Start, timeout: float, on_line: Callable[[str], Any]) -> Result:
    """The same, with each line of stdout handed on as it comes."""
    import logging

    import sh

    logging.getLogger("sh").setLevel(logging.CRITICAL)  # at DEBUG it shows what is piped to and from programs
    lines: list[str] = []

    def take(line: str) -> None:
        lines.append(line)
        on_line(line.rstrip("\n"))

    options: dict[str, Any] = {
        "_in": start.stdin, "_out": take, "_env": start.env, "_cwd": start.cwd, "_tty_out": False, "_new_session": True,
        "_decode_errors": "replace", "_bg": True, "_bg_exc": False,
    }  # fmt: skip
    if start.pass_fds:
        options["_pass_fds"] = set(start.pass_fds)
    try:
        process = sh.Command(start.words[0])(*start.words[1:], **options)
    except sh.ForkException as error:  # which shows a traceback of the child
        why = re.search(r"\[Errno \d+\] ([^:\n]+)", str(error))
        raise start.failed(why[1] if why else "") from None
    done = _wait(process, start, timeout)
    return Result(done.exit_code, "".join(lines), done.stderr.decode(errors="replace"), process.pid)


def observe(command: Sequence[str], *, stdin: str = "", timeout: float = DEFAULT_TIMEOUT) -> Result:
    """Run a program that only looks, whatever its exit status; Ctrl-C ends it.

    Raises Missing where the program is not installed, CommandFailed on time-out.
    """
    import subprocess

    words = [find_program(command[0]), *command[1:]]
    try:
        done = subprocess.run(
            words, input=stdin.encode(), capture_output=True, env=environment(), timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{' '.join(command)} did not end within {timeout:g} s") from None
    return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def _wait(process: Any, start: _Start, timeout: float) -> Any:
    """Wait for the end of a process; after `timeout` seconds its whole process group is killed.

    sh's own `_timeout` looks only every 0.1 s, which is what every short command would then cost, and it
    leaves grandchildren behind.
    """
    import sh

    overdue = threading.Event()

    def end() -> None:
        overdue.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(timeout, end)
    timer.daemon = True
    timer.start()
    try:
        done = process.wait()
    except sh.ErrorReturnCode as error:
        done = error
    finally:
        timer.cancel()
    if overdue.is_set():
        raise start.overdue(timeout)
    return done


def as_user(user: str, words: list[str], env: Mapping[str, str] | None) -> tuple[list[str], dict[str, str]]:
    """The command and environment to run `words` as a user with its own groups (setpriv(1))."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise Missing(f"the user {user} does not exist") from None
    switch = [find_program("setpriv"), f"--reuid={user}", f"--regid={account.pw_gid}", "--init-groups", "--"]
    return [*switch, *words], {"HOME": account.pw_dir, "USER": user, "LOGNAME": user} | dict(env or {})


def failure(shown: str, result: Result, *, quiet: bool = False) -> CommandFailed:
    """The error for a program that ended badly: the command, its status and the end of what it said."""
    how = f"exit status {result.status}" if result.status >= 0 else f"signal {-result.status}"
    lines = (result.stderr.strip() or result.stdout.strip()).splitlines()[-_SHOWN_LINES:]
    said = [line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + "…" for line in lines]
    return CommandFailed(f"{shown}: {how}", status=result.status, detail="" if quiet else "\n".join(said))
