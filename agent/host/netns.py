"""Network namespaces: entered by programs and by sockets, and throw-away ones that leave nothing behind.

A namespace belongs to a thread, not to a process (setns(2), unshare(2)): a thread of our own enters or makes one, and
the rest of the agent stays where it is. An open file keeps a namespace that nothing runs in (network_namespaces(7)).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from agent.errors import ResourceError
from agent.host.run import Result, failure, find_program, observe, run
from agent.host.threads import Value, in_thread

_CLONE_NEWNET = 0x40000000


class Namespace:
    """A network namespace by the path that leads to it; without one it is that of the agent itself."""

    def __init__(self, path: str | None = None) -> None:
        self.path = path

    def run(self, command: Sequence[str], *, stdin: str = "", changes: bool = False) -> Result:
        """Run a program in it; one that `changes` something is not ended by Ctrl-C.

        Raises Missing where it is not installed, CommandFailed where it does not end well.
        """
        words = [find_program(command[0]), *command[1:]]
        if self.path is not None:
            words = ["nsenter", f"--net={self.path}", "--", *words]
        done = run(words, stdin=stdin, accept=None) if changes else observe(words, stdin=stdin)
        if not done.ended_well:
            raise failure(" ".join(command), done)
        return done

    def call(self, function: Callable[[], Value]) -> Value:
        """Call a function in it: sockets made there stay there, `/proc/thread-self/net` is its own."""
        if self.path is None:
            return function()

        def entered() -> Value:
            fd = os.open(str(self.path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                _system_call("setns", fd, _CLONE_NEWNET)
            finally:
                os.close(fd)
            return function()

        return in_thread(entered)


@contextmanager
def throw_away() -> Iterator[Namespace]:
    """A new, empty namespace that is gone afterwards, with all that was made in it."""

    def make() -> int:
        _system_call("unshare", _CLONE_NEWNET)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    try:
        fd = in_thread(make)
    except OSError as error:
        raise ResourceError(
            f"no network namespace can be made to try the rules in: {error.strerror}",
            hint="in a container this needs the capability CAP_SYS_ADMIN",
        ) from None
    try:
        yield Namespace(f"/proc/{os.getpid()}/fd/{fd}")
    finally:
        os.close(fd)


def _system_call(name: str, *arguments: int) -> None:
    import ctypes  # Python has these calls since 3.12 only

    if ctypes.CDLL(None, use_errno=True)[name](*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
