"""Handing sealed messages on by LMTP (RFC 2033), over a connection that is kept from one message to the next."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

_TIMEOUT = 600.0
_LONGEST_REPLY = 64 * 1024
_LAST_LINE = re.compile(rb"[2-5]\d\d(?: |\r?\n)")


class Unavailable(Exception):
    """The next server does not answer as it should; the message may or may not have been taken."""


@dataclass(frozen=True, slots=True)
class Sender:
    """MAIL FROM as it came: the path with its angle brackets, and what was said of the message."""

    path: bytes
    eight_bit: bool = False
    utf8: bool = False


class Onward:
    """The next LMTP server, on a unix socket."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._offers: set[bytes] = set()

    async def offer(self, sender: Sender, recipient: bytes) -> bytes:
        """Begin a message, which may still be given up by `close`; nothing, or the reply where it is refused.

        `recipient` is the path with its angle brackets. Raises Unavailable.
        """
        async with self._guarded():
            kept = self._streams is not None
            try:
                reply = await self._offer(sender, recipient)
            except (OSError, EOFError):
                if not kept:
                    raise
                reply = b"421 "
            if kept and reply[:3] == b"421":  # the connection was closed since the last message
                await self.close()
                reply = await self._offer(sender, recipient)
            return reply

    async def send(self, pieces: Iterable[bytes]) -> bytes:
        """Hand over the message that was begun; the reply is the server's own, word by word. Raises Unavailable.

        `pieces` must not need dots doubled.
        """
        async with self._guarded():
            if self._streams is None:
                raise EOFError("the connection was lost")
            writer = self._streams[1]
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            writer.write(b".\r\n")
            return await self._reply()

    @contextlib.asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_TIMEOUT):
                yield
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            await self.close()
            raise Unavailable(f"{self._socket}: {error or type(error).__name__}") from None
        except BaseException:
            await self.close()  # half a message must never be taken for a whole one
            raise

    async def _offer(self, sender: Sender, recipient: bytes) -> bytes:
        await self._connect()
        commands = [self._mail_command(sender), b"RCPT TO:" + recipient, b"DATA"]
        if b"PIPELINING" in self._offers:
            self._send(b"\r\n".join(commands))
            replies = [await self._reply() for _ in commands]
            refused = next((reply for reply in replies[:2] if reply[:1] != b"2"), b"")
            if refused and replies[2][:1] == b"3":
                await self.close()  # it waits for a message that is for nobody
        else:
            for command in commands:
                self._send(command)
                replies = [await self._reply()]
                refused = b"" if replies[0][:1] in b"23" else replies[0]
                if refused:
                    break
        refused = refused or (b"" if replies[-1][:1] == b"3" else replies[-1])
        if refused and self._streams is not None:
            self._send(b"RSET")
            await self._reply()
        return refused

    def _mail_command(self, sender: Sender) -> bytes:
        words = [b"MAIL FROM:" + sender.path]
        if sender.eight_bit and b"8BITMIME" in self._offers:
            words.append(b"BODY=8BITMIME")
        if sender.utf8 and b"SMTPUTF8" in self._offers:
            words.append(b"SMTPUTF8")
        return b" ".join(words)

    async def _connect(self) -> None:
        if self._streams is not None:
            return
        self._streams = await asyncio.open_unix_connection(self._socket, limit=_LONGEST_REPLY)
        greeting = await self._reply()
        if greeting[:1] != b"2":
            raise OSError(greeting.decode(errors="replace").strip())
        self._send(b"LHLO localhost")
        offers = await self._reply()
        if offers[:1] != b"2":
            raise OSError(offers.decode(errors="replace").strip())
        self._offers = {line[4:].split(b" ")[0].strip().upper() for line in offers.splitlines()}

    def _send(self, command: bytes) -> None:
        assert self._streams is not None
        self._streams[1].write(command + b"\r\n")

    async def _reply(self) -> bytes:
        """A whole reply, without its last line end. Raises EOFError, OSError, ValueError where it is none."""
        assert self._streams is not None
        lines: list[bytes] = []
        while sum(map(len, lines)) < _LONGEST_REPLY:
            line = await self._streams[0].readuntil(b"\n")
            lines.append(line)
            if _LAST_LINE.match(line):
                return b"".join(lines).rstrip(b"\r\n")
            if not re.match(rb"[2-5]\d\d-", line):
                break
        raise ValueError("its reply is not LMTP")

    async def close(self) -> None:
        """End the connection."""
        if self._streams is None:
            return
        writer, self._streams = self._streams[1], None
        with contextlib.suppress(OSError):
            writer.transport.abort()
