"""gpg as a pipe: plaintext in, ciphertext out, nothing of either kept. Its memory does not grow with the message."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Callable

from agent.errors import CommandFailed
from agent.host.run import environment, find_program

PIPE_SIZE = 1 << 18
OPTIONS = (
    "--batch", "--no-tty", "--quiet", "--no-options", "--no-permission-warning", "--no-auto-check-trustdb",
    "--no-autostart", "--lock-never", "--no-random-seed-file", "--no-auto-key-locate", "--armor",
    # The keys are trusted by declaration: they are named by fingerprint.
    "--trust-model", "always",
    # Attachments are base64: the fastest compression takes off what armour puts on.
    "--compress-algo", "zlib", "--compress-level", "1",
)  # fmt: skip
"""How gpg is called for every message."""
_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)  # which Python ignores


def command(home: str, fingerprint: str) -> list[str]:
    """The command line that encrypts to one key."""
    return [find_program("gpg"), "--homedir", home, *OPTIONS, "--recipient", fingerprint, "--encrypt"]


class GpgPipe:
    """One run of gpg that encrypts what is written to it; each piece of its output goes to `take`.

    Bare descriptors on the event loop: for a small message the transports of asyncio cost as much as gpg itself.
    """

    def __init__(self, home: str, fingerprint: str, take: Callable[[bytes], object]) -> None:
        """Start gpg. Raises CommandFailed where that cannot be done, Missing where there is no gpg."""
        self._loop = asyncio.get_running_loop()
        self._take = take
        self._failure = ""
        self._errors = os.memfd_create("gpg-stderr", os.MFD_CLOEXEC)
        self._stdin, self._stdout, self._process = -1, -1, -1
        self._ended: asyncio.Future[int] = self._loop.create_future()
        try:
            self._start(command(home, fingerprint), environment({"HOME": home}))
        except OSError as error:
            self._close()
            raise CommandFailed(f"gpg cannot be started: {error.strerror}") from None

    def _start(self, words: list[str], environ: dict[str, str]) -> None:
        theirs_in, self._stdin = os.pipe2(os.O_CLOEXEC)
        try:
            self._stdout, theirs_out = os.pipe2(os.O_CLOEXEC)
            try:
                actions = [(os.POSIX_SPAWN_DUP2, fd, to) for to, fd in enumerate((theirs_in, theirs_out, self._errors))]
                self._pid = os.posix_spawn(words[0], words, environ, file_actions=actions, setsigdef=_SIGNALS)
            finally:
                os.close(theirs_out)
        finally:
            os.close(theirs_in)
        self._process = os.pidfd_open(self._pid)
        for fd in (self._stdin, self._stdout):
            os.set_blocking(fd, False)
            with contextlib.suppress(OSError):  # beyond what the user may have in pipes
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        self._loop.add_reader(self._stdout, self._readable)
        self._loop.add_reader(self._process, self._reap)

    def _readable(self) -> None:
        try:
            data = os.read(self._stdout, PIPE_SIZE)
        except BlockingIOError:
            return
        if data and not self._failure:
            try:
                self._take(data)
            except OSError as error:
                self._failure = f"its output cannot be kept: {error.strerror}"
        elif not data:
            self._loop.remove_reader(self._stdout)
            os.close(self._stdout)
            self._stdout = -1

    def _reap(self) -> None:
        while self._stdout >= 0:  # what it wrote before it ended
            self._readable()
        self._loop.remove_reader(self._process)
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        os.close(self._process)
        self._process = -1
        self._ended.set_result(status)

    async def write(self, data: bytes) -> None:
        """Hand plaintext to gpg; once it has failed nothing happens any more, and `finish` tells."""
        rest = memoryview(data)
        while rest and self._stdin >= 0:
            try:
                rest = rest[os.write(self._stdin, rest) :]
            except BlockingIOError:
                await self._writable()
            except BrokenPipeError:
                return

    async def _writable(self) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(self._stdin, _set, ready)
        try:
            await ready
        finally:
            self._loop.remove_writer(self._stdin)

    def close_input(self) -> None:
        """There is no more to encrypt."""
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    async def finish(self) -> None:
        """Wait until all is encrypted. Raises CommandFailed where not all of it was."""
        self.close_input()
        status = await asyncio.shield(self._ended)
        if status or self._failure:
            size = min(os.fstat(self._errors).st_size, 2000)
            said = os.pread(self._errors, size, 0).decode(errors="replace").strip()
            raise CommandFailed(f"gpg --encrypt: {self._failure or f'exit status {status}'}", detail=said)

    async def end(self) -> None:
        """Leave nothing behind: end gpg if it still runs. To be called at the end in any case."""
        self.close_input()
        if self._process >= 0:
            self._failure = self._failure or "it was ended"
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
            await asyncio.shield(self._ended)
        self._close()

    def _close(self) -> None:
        for fd in (self._stdin, self._stdout, self._errors):
            if fd >= 0:
                os.close(fd)
        self._stdin = self._stdout = self._errors = -1


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
