"""One message on its way through gpg: once for each of its recipients, in pieces, never all of it in memory.

Only ciphertext is ever kept: in memory while it is small, else in a file without a name.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

from agent.errors import CommandFailed, ResourceError
from agent.host.openpgp.pipe import GpgPipe
from agent.mail.seal.frame import Frame, enough, frame

_IN_MEMORY = 256 * 1024
_CHUNK = 256 * 1024


class Spool:
    """What waits to be handed on. Raises OSError where the disk is full."""

    def __init__(self, folder: str | None, newline: bytes | None = None) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=folder)  # noqa: SIM115 - closed below
        self.newline = newline

    def take(self, data: bytes) -> None:
        """Add a piece of gpg's output, whose lines end with LF."""
        self.add(data.replace(b"\n", b"\r\n") if self.newline == b"\r\n" else data)

    def add(self, data: bytes) -> None:
        """Add a piece as it is."""
        self._file.write(data)

    def pieces(self) -> Iterator[bytes]:
        """All of it."""
        self._file.seek(0)
        while data := self._file.read(_CHUNK):
            yield data

    def close(self) -> None:
        """Give it up; the file has no name, so nothing is left."""
        with contextlib.suppress(OSError):
            self._file.close()


class Sealing:
    """A message for one recipient: gpg, and the spool that it fills."""

    def __init__(self, home: str, fingerprint: str, folder: str | None, newline: bytes | None) -> None:
        self._home, self._fingerprint = home, fingerprint
        self.spool = Spool(folder, newline)
        self._pipe: GpgPipe | None = None
        self._problem = ""

    def start(self) -> None:
        """Start gpg; what is wrong with it shows in `finish`."""
        try:
            self._pipe = GpgPipe(self._home, self._fingerprint, self.spool.take)
        except ResourceError as error:
            self._problem = str(error)

    async def write(self, data: bytes) -> None:
        """Encrypt a piece."""
        if self._pipe is not None:
            await self._pipe.write(data)

    def close_input(self) -> None:
        """There is no more to encrypt."""
        if self._pipe is not None:
            self._pipe.close_input()

    async def finish(self) -> None:
        """Wait until all is encrypted. Raises CommandFailed where it is not."""
        if self._pipe is None:
            raise CommandFailed(self._problem)
        await self._pipe.finish()

    async def stop(self) -> None:
        """End gpg where it still runs."""
        if self._pipe is not None:
            await self._pipe.end()

    async def close(self) -> None:
        """Leave nothing behind."""
        await self.stop()
        self.spool.close()


class Stream:
    """A message as it comes in; `newline` is the frame's, where it is not to be the message's own.

    `already` is the message itself where it was sealed before it came.
    """

    def __init__(self, sealings: Sequence[Sealing], folder: str | None, newline: bytes | None = None) -> None:
        self._sealings = sealings
        self._folder = folder
        self._newline = newline
        self._window = bytearray()
        self._begun = False
        self._lost = ""
        self.size = 0
        self.frame: Frame | None = None
        self.already: Spool | None = None

    async def feed(self, data: bytes) -> None:
        """Take a piece of the message."""
        self.size += len(data)
        if self._begun:
            await self._pass(data)
            return
        self._window += data
        if enough(self._window):
            await self._begin(complete=False)

    async def end(self) -> None:
        """There are no more pieces. Raises CommandFailed where the message could not be kept."""
        if not self._begun:
            await self._begin(complete=True)
        if self.frame is not None:
            await self._pass(self.frame.closing)
            for sealing in self._sealings:
                sealing.close_input()
        if self._lost:
            raise CommandFailed(self._lost)

    async def _begin(self, *, complete: bool) -> None:
        self._begun = True
        window, self._window = bytes(self._window), bytearray()
        self.frame = frame(window, complete=complete, newline=self._newline)
        if self.frame is None:
            self.already = Spool(self._folder)
            for sealing in self._sealings:
                await sealing.stop()
            await self._pass(window)
            return
        for sealing in self._sealings:
            sealing.spool.newline = self.frame.newline
        await self._pass(self.frame.opening + window)

    async def _pass(self, data: bytes) -> None:
        if self.already is None:
            for sealing in self._sealings:
                await sealing.write(data)
        elif not self._lost:
            try:
                self.already.add(data)
            except OSError as error:
                self._lost = f"the message cannot be kept: {error.strerror}"

    def sealed(self, sealing: Sealing) -> Iterator[bytes]:
        """The pieces of the message to hand on for one recipient."""
        if self.already is not None:
            yield from self.already.pieces()
        elif self.frame is not None:
            yield self.frame.outer
            yield from sealing.spool.pieces()
            yield self.frame.ending

    def close(self) -> None:
        """Leave nothing behind."""
        if self.already is not None:
            self.already.close()
