"""Marked blocks: lines between two comments in a text whose other bytes stay as they are.

All of it works on bytes, so that a file in any encoding that extends ASCII keeps what is not understood.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agent.errors import ResourceError

_BOM = b"\xef\xbb\xbf"
_MARKER = re.compile(rb"\s*(\S+)\s+(BEGIN|END) state-agent: (\S+?)(?:\s+([^\w\s]\S*))?\s*")


@dataclass(frozen=True, slots=True)
class Found:
    """A block: the numbers of its marker lines, the lines between them (Unix line endings), its comment style."""

    begin: int
    end: int
    content: bytes
    comment: str


def holds_marker(content: bytes) -> bool:
    """Whether a line of it would be taken for the marker of a block."""
    return any(_MARKER.fullmatch(line) for line in content.split(b"\n"))


def unix(content: bytes) -> bytes:
    """The same lines, each ending with a newline only."""
    return re.sub(rb"\r+\n", b"\n", content)


def find(text: bytes, label: str) -> Found | None:
    """The block with that label; raises ResourceError where its markers are not one BEGIN before one END."""
    return _find(_lines(text.removeprefix(_BOM)), label)


def put(text: bytes, label: str, content: bytes, comment: str, *, after: str | None, before: str | None) -> bytes:
    """The text with this block in it: where it stood, else after the last or before the first match, else at the end.

    A text without a newline at its end stays without one.
    """
    bom = _BOM if text.startswith(_BOM) else b""
    lines = _lines(text.removeprefix(bom))
    found = _find(lines, label)
    begin, end = (found.begin, found.end + 1) if found else (_place(lines, after, before),) * 2
    ending = _ending(lines)
    above, below = b"".join(lines[:begin]), b"".join(lines[end:])
    if above and not above.endswith(b"\n"):
        above += ending
    complete = below or not lines or lines[-1].endswith(b"\n")
    block = ending.join(_marked(label, content, comment))
    return bom + above + block + (ending if complete else b"") + below


def drop(text: bytes, label: str) -> bytes:
    """The text without the block: what it was before `put`."""
    bom = _BOM if text.startswith(_BOM) else b""
    lines = _lines(text.removeprefix(bom))
    found = _find(lines, label)
    if found is None:
        return text
    above, below = b"".join(lines[: found.begin]), b"".join(lines[found.end + 1 :])
    if not below and not lines[-1].endswith(b"\n"):
        above = above.removesuffix(_ending(lines))
    return bom + above + below


def _lines(text: bytes) -> list[bytes]:
    """Lines with their endings, split at newlines only: a lone carriage return ends no line."""
    lines = [line + b"\n" for line in text.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _find(lines: Sequence[bytes], label: str) -> Found | None:
    markers = [(i, m) for i, line in enumerate(lines) if (m := _MARKER.fullmatch(line)) and m[3] == label.encode()]
    begins = [i for i, marker in markers if marker[2] == b"BEGIN"]
    ends = [i for i, marker in markers if marker[2] == b"END"]
    if not markers:
        return None
    if len(begins) == len(ends) == 1 and begins < ends:
        comment = b" ".join(part for part in markers[0][1].group(1, 4) if part)
        content = unix(b"".join(lines[begins[0] + 1 : ends[0]]))
        return Found(begins[0], ends[0], content, comment.decode("utf-8", "backslashreplace"))
    where = (
        f"{word} in line {', '.join(str(number + 1) for number in numbers)}" if numbers else f"no {word}"
        for word, numbers in (("BEGIN", begins), ("END", ends))
    )
    hint = "nothing was touched; mend or remove the marker lines by hand"
    raise ResourceError(f"the markers of the block {label} are broken", detail="; ".join(where), hint=hint)


def _ending(lines: Sequence[bytes]) -> bytes:
    """The line ending that most lines have."""
    dos = sum(line.endswith(b"\r\n") for line in lines)
    return b"\r\n" if dos * 2 > sum(line.endswith(b"\n") for line in lines) else b"\n"


def _marked(label: str, content: bytes, comment: str) -> list[bytes]:
    opening, _, closing = comment.partition(" ")
    begin, end = (f"{opening} {word} state-agent: {label} {closing}".rstrip().encode() for word in ("BEGIN", "END"))
    return [begin, *content.removesuffix(b"\n").split(b"\n"), end] if content else [begin, end]


def _place(lines: Sequence[bytes], after: str | None, before: str | None) -> int:
    """The number of the line that a new block goes before; never inside another block."""
    pattern = after if after is not None else before
    if pattern is None:
        return len(lines)
    matches: list[int] = []
    inside = False
    for number, line in enumerate(lines):
        marker = _MARKER.fullmatch(line)
        if marker:
            inside = marker[2] == b"BEGIN"
            fits = inside == (before is not None)  # before a BEGIN and after an END is outside
        else:
            fits = not inside
        if fits and re.search(pattern, line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")):
            matches.append(number)
    if not matches:
        return len(lines)
    return matches[-1] + 1 if after is not None else matches[0]
