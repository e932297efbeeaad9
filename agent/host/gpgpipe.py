"""gpg as a pipe: plaintext in, ciphertext out, nothing of either kept. Its memory does not grow with the message."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
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


def command(home: str, fingerprint: str) -> list[str]:
    """The command line that encrypts to one key."""
    return [find_program("gpg"), "--homedir", home, *OPTIONS, "--recipient", fingerprint, "--encrypt"]


class GpgPipe:
    """One run of gpg that encrypts what is written to it; each piece of its output goes to `take`."""

    def __init__(self, process: asyncio.subprocess.Process, errors: int, take: Callable[[bytes], object]) -> None:
        self._process = process
        self._errors = errors
        self._failure = ""
        self._pump = asyncio.create_task(self._take_all(take))

    @classmethod
    async def start(cls, home: str, fingerprint: str, take: Callable[[bytes], object]) -> GpgPipe:
        """Start gpg. Raises CommandFailed where that cannot be done, Missing where there is no gpg."""
        errors = os.memfd_create("gpg-stderr", os.MFD_CLOEXEC)
        try:
            process = await asyncio.create_subprocess_exec(
                *command(home, fingerprint), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                stderr=errors, env=environment() | {"HOME": home}, cwd="/", limit=PIPE_SIZE,
            )  # fmt: skip
        except OSError as error:
            os.close(errors)
            raise CommandFailed(f"gpg cannot be started: {error.strerror}") from None
        assert process.stdin is not None
        pipe = process.stdin.get_extra_info("pipe")
        with contextlib.suppress(OSError):  # beyond what the user may have in pipes
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        return cls(process, errors, take)

    async def _take_all(self, take: Callable[[bytes], object]) -> None:
        assert self._process.stdout is not None
        while data := await self._process.stdout.read(PIPE_SIZE):
            if not self._failure:
                try:
                    take(data)
                except OSError as error:
                    self._failure = f"its output cannot be kept: {error.strerror}"

    async def write(self, data: bytes) -> None:
        """Hand plaintext to gpg; once it has failed nothing happens any more, and `finish` tells."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def finish(self) -> None:
        """Wait until all is encrypted. Raises CommandFailed where not all of it was."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._pump
        status = await self._process.wait()
        if status or self._failure:
            raise CommandFailed(f"gpg --encrypt: {self._failure or f'exit status {status}'}", detail=self._said())

    def _said(self) -> str:
        size = min(os.fstat(self._errors).st_size, 2000)
        return os.pread(self._errors, size, 0).decode(errors="replace").strip()

    async def end(self) -> None:
        """Leave nothing behind: end gpg if it still runs. To be called at the end in any case."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        self._pump.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._pump
        await self._process.wait()
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1
