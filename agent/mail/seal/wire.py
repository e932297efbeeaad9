"""LMTP as it goes over the wire: addresses, and messages with their dots (RFC 5321, section 4.5.2)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator

_END = b"\r\n.\r\n"
_PIECE = 1 << 20  # more than the reader ever holds
_PATH = re.compile(r'(<(?:"(?:[^"\\]|\\.)*"|[^"<>\s])*>)((?: +[!-~]+)*) *\Z')


async def content(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """A message as it follows DATA, in pieces, up to the line with one dot; only CR LF ends a line.

    Raises EOFError where the connection ends before.
    """
    held, virtual = b"\r\n", 2  # so that the very first line may be the last
    while True:
        piece = await reader.read(_PIECE)
        if not piece:
            raise EOFError
        text = held + piece
        at = text.find(_END)
        if at >= 0:
            if text[at + len(_END) :]:
                reader.feed_data(text[at + len(_END) :])  # the next command, which came along
            yield text[: at + 2].replace(b"\r\n.", b"\r\n")[virtual:]
            return
        keep = next(size for size in range(4, -1, -1) if text.endswith(_END[:size]))
        ready, held = text[: len(text) - keep], text[len(text) - keep :]
        if ready:
            yield ready.replace(b"\r\n.", b"\r\n")[virtual:]
            virtual = 0


def stuffed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Double the dots that begin lines, end the last line, as SMTP wants it (RFC 5321, section 4.5.2)."""
    before = b"\r\n"
    for piece in pieces:
        if piece:
            text = before + piece
            yield text.replace(b"\r\n.", b"\r\n..")[len(before) :]
            before = text[-2:]
    if before != b"\r\n":
        yield b"\r\n"


def path_of(keyword: str, argument: str | None) -> tuple[bytes, list[str]]:
    """The path of MAIL or RCPT with its brackets, and the parameters in upper case; no path if malformed."""
    text = argument or ""
    if text[: len(keyword)].upper() != keyword:
        return b"", []
    found = _PATH.match(text[len(keyword) :].lstrip())
    return (found[1].encode(errors="surrogateescape"), found[2].upper().split()) if found else (b"", [])
