"""The sealer as an LMTP server: seals each message for each of its recipients while it comes in, and hands it on.

A recipient's verdict is that of the next server. Whatever goes wrong here is a temporary error: the message stays
with who sent it, is never bounced, and never handed on in clear.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import Session

from agent.errors import ResourceError
from agent.mail.seal.keys import Keys, NoKey
from agent.mail.seal.log import log
from agent.mail.seal.onward import Onward, Sender, Unavailable
from agent.mail.seal.stream import Sealing, Stream
from agent.mail.seal.wire import content, path_of, stuffed

_READ_AHEAD = 1 << 16
_MOST_RECIPIENTS = 20
_LONGEST_COMMAND = 4096


@dataclass
class Shared:
    """What all connections have in common. `slots` bounds how many messages are sealed at a time."""

    keys: Keys
    onward: str
    folder: str | None
    slots: asyncio.Semaphore
    busy: set[object] = field(default_factory=set)
    stopping: bool = False


@dataclass
class _Target:
    """One recipient of the message in hand."""

    path: bytes
    sealing: Sealing


class _Hooks:
    """What aiosmtpd asks for; the server is the connection."""

    async def handle_exception(self, error: Exception) -> str:
        """The reply to a command that failed for a reason that nobody thought of."""
        log(f"internal error: {type(error).__name__}")  # without its text, in which a message could be
        return "451 4.3.0 internal error of the sealer"

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, server: Sealer, session: Session, _: object, hostname: str, responses: list[str]
    ) -> list[str]:
        """What is offered."""
        server.forget()
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", "250 ENHANCEDSTATUSCODES"]

    async def handle_RSET(self, server: Sealer, *_: object) -> str:  # noqa: N802
        """Forget the message in hand."""
        server.forget()
        return "250 2.0.0 OK"


class Sealer(LMTP):
    """One connection of Postfix's."""

    line_length_limit = _READ_AHEAD

    def __init__(self, shared: Shared, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            _Hooks(),
            data_size_limit=0,
            enable_SMTPUTF8=True,
            hostname="localhost",
            ident="sealer",
            loop=loop,
            timeout=600,
        )
        self.command_size_limits.update(dict.fromkeys(("MAIL", "RCPT"), _LONGEST_COMMAND))
        self._shared = shared
        self._onward = Onward(shared.onward)
        self._sender: Sender | None = None
        self._recipients: list[tuple[bytes, str]] = []

    def connection_lost(self, error: Exception | None) -> None:
        """Close what belongs to the connection."""
        super().connection_lost(error)
        self.loop.create_task(self._onward.close())

    def forget(self) -> None:
        """Begin anew, without a sender."""
        self._sender, self._recipients = None, []

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802
        """MAIL FROM: kept as it came."""
        if await self.check_helo_needed():
            return
        path, words = path_of("FROM:", arg)
        if not path:
            await self.push("501 5.5.4 Syntax: MAIL FROM:<address>")
        elif self._sender is not None:
            await self.push("503 5.5.1 nested MAIL command")
        elif self._shared.stopping:
            await self.push("421 4.3.2 the sealer is being stopped")
        elif any(not re.fullmatch(r"SMTPUTF8|BODY=(7BIT|8BITMIME)|SIZE=\d+", word) for word in words):
            await self.push("555 5.5.4 unknown MAIL FROM parameter")
        else:
            self._sender = Sender(path, "BODY=8BITMIME" in words, "SMTPUTF8" in words)
            await self.push("250 2.1.0 OK")

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        """RCPT TO: taken only where there is a key to seal to."""
        path, words = path_of("TO:", arg)
        if self._sender is None:
            await self.push("503 5.5.1 need MAIL command")
        elif path in (b"", b"<>"):
            await self.push("501 5.5.4 Syntax: RCPT TO:<address>")
        elif words:
            await self.push("555 5.5.4 unknown RCPT TO parameter")
        elif len(self._recipients) >= _MOST_RECIPIENTS:
            await self.push("452 4.5.3 too many recipients")
        else:
            await self.push(await self._accept(path))

    async def _accept(self, path: bytes) -> str:
        address = path[1:-1].decode(errors="surrogateescape")
        try:
            if self._shared.keys.changed():
                await asyncio.to_thread(self._shared.keys.refresh)
            self._recipients.append((path, self._shared.keys.fingerprint(address)))
        except NoKey as error:
            log(str(error))
            return "450 4.7.1 there is no usable OpenPGP key to seal this recipient's mail to"
        except ResourceError as error:
            log(str(error))
            return "451 4.3.0 the sealer cannot read its keys"
        return "250 2.1.5 OK"

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
        """The message: one reply for each recipient."""
        if self._sender is None or not self._recipients:
            await self.push("503 5.5.1 need MAIL and RCPT commands")
            return
        if arg:
            await self.push("501 5.5.4 Syntax: DATA")
            return
        sender, recipients = self._sender, self._recipients
        self.forget()
        shared, token = self._shared, object()
        shared.busy.add(token)
        try:
            async with shared.slots:
                await self._take(sender, recipients)
        except Exception as error:  # noqa: BLE001 - the rest of the message must never be taken for commands
            log(f"internal error: {type(error).__name__}")  # without its text, in which a message could be
            if self.transport is not None:
                self.transport.close()
        finally:
            shared.busy.discard(token)

    async def _take(self, sender: Sender, recipients: list[tuple[bytes, str]]) -> None:
        shared = self._shared
        targets = [_Target(path, Sealing(shared.keys.home, key, shared.folder, b"\r\n")) for path, key in recipients]
        stream = Stream([target.sealing for target in targets], shared.folder, b"\r\n")
        offered: asyncio.Task[bytes] | None = None
        try:
            for target in targets:
                target.sealing.start()
            await self.push("354 End data with <CR><LF>.<CR><LF>")
            async for piece in content(self._reader):
                self._reset_timeout()
                await stream.feed(piece)
            # While gpg works the next server looks at the envelope.
            offered = self.loop.create_task(self._onward.offer(sender, targets[0].path))
            problem = await _ended(stream)
            for target in targets:
                self._reset_timeout()
                offered = offered or self.loop.create_task(self._onward.offer(sender, target.path))
                await self._answer(problem or await self._hand_on(offered, target, stream))
                if not problem:
                    await _settled(offered)
                    offered = None
        finally:
            if offered is not None:
                offered.cancel()
                await _settled(offered)
                await self._onward.close()
            stream.close()
            for target in targets:
                await target.sealing.close()

    async def _hand_on(self, offered: asyncio.Task[bytes], target: _Target, stream: Stream) -> bytes:
        """The verdict on the message for one recipient."""
        problem = b"451 4.3.0 the message could not be sealed"
        try:
            if stream.already is None:
                await target.sealing.finish()
            verdict = await offered
            if not verdict:
                # What gpg and the frame make has no line that begins with a dot.
                pieces = stream.sealed(target.sealing)
                verdict = await self._onward.send(stuffed(pieces) if stream.already else pieces)
        except Unavailable as error:
            log(f"to={_shown(target.path)}: {error}")
            return b"451 4.4.1 the server that stores mail does not answer"
        except (ResourceError, OSError) as error:
            log(f"to={_shown(target.path)}: {error}")
            await _settled(offered)
            await self._onward.close()  # it waits for this message
            return problem
        how = "sealed before" if stream.already else "sealed"
        log(f"to={_shown(target.path)} size={stream.size} {how}: {_shown(verdict)}")
        return verdict

    async def _answer(self, verdict: bytes) -> None:
        self._writer.write(verdict + b"\r\n")
        await self._writer.drain()


async def _settled(offered: asyncio.Task[bytes]) -> None:
    """Wait for the end of what was offered; whether it failed was told already."""
    await asyncio.wait([offered])
    if not offered.cancelled():
        offered.exception()


async def _ended(stream: Stream) -> bytes:
    try:
        await stream.end()
    except ResourceError as error:
        log(str(error))
        return b"452 4.3.1 the message cannot be kept"
    return b""


def _shown(text: bytes) -> str:
    return text.decode("ascii", errors="backslashreplace")[:300]
