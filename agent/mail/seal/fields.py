"""Header fields and MIME parameters as bytes, of any message, however broken: nothing is decoded, nothing fails."""

from __future__ import annotations

import re
from typing import NamedTuple

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)")
_EMPTY_LINE = re.compile(rb"\r?\n")
_PARAMETER = re.compile(rb';\s*([!#-\'*+.0-9A-Z^-~-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;"]+)', re.DOTALL | re.IGNORECASE)
_END = re.compile(rb"\A\r?\n|\n\r?\n")


class Field(NamedTuple):
    """One header field: its name in lower case, and all of it with its line ends."""

    name: bytes
    raw: bytes

    @property
    def value(self) -> bytes:
        """What follows the colon, unfolded."""
        return b" ".join(self.raw.partition(b":")[2].split())

    def clean(self, newline: bytes) -> bytes:
        """All of it without what no header may hold (NUL, CR), its lines ended by `newline`."""
        lines = self.raw.translate(None, b"\0\r").rstrip(b"\n").split(b"\n")
        return newline.join(lines) + newline


class Head(NamedTuple):
    """The beginning of a message.

    `fields` are those up to the first line that is none; `body` is where the body begins, or the length of what is
    known of the message where its header goes on beyond that.
    """

    fields: list[Field]
    body: int

    def first(self, name: bytes) -> bytes:
        """The value of the first field of this name, else nothing."""
        return next((field.value for field in self.fields if field.name == name), b"")


def end_of_header(text: bytes | bytearray) -> int:
    """Where the body begins, behind the first empty line; -1 where there is no such line yet."""
    found = _END.search(text)
    return found.end() if found else -1


def parsed(text: bytes, *, complete: bool) -> Head:
    """The header at the beginning of `text`; a last line that may go on (not `complete`) is left out."""
    fields: list[Field] = []
    at = 0
    while found := _FIELD.match(text, at):
        if not complete and found.end() == len(text):
            return Head(fields, len(text))
        fields.append(Field(found[1].lower(), found[0]))
        at = found.end()
    empty = _EMPTY_LINE.match(text, at)
    return Head(fields, empty.end() if empty else at)


def parameters(value: bytes) -> dict[bytes, bytes]:
    """The parameters of a Content-Type or the like, names in lower case, quotes taken off."""
    found: dict[bytes, bytes] = {}
    for match in _PARAMETER.finditer(value):
        text = match[2]
        if text[:1] == b'"':
            text = re.sub(rb"\\(.)", rb"\1", text[1:-1], flags=re.DOTALL)
        found.setdefault(match[1].lower(), text)
    return found


def media_type(value: bytes) -> bytes:
    """The type and subtype of a Content-Type, in lower case."""
    return value.partition(b";")[0].strip().lower()
