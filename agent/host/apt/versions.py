"""Debian version numbers: their order, and the patterns that a declaration asks for (deb-version(7))."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

_PATTERN = re.compile(r"(>=|=)\s*([0-9*?][A-Za-z0-9.+~:*?-]*)")
_PARTS = re.compile(r"(\D*)(\d*)")
_END = ((0,), 0)

Key = tuple[int, list[tuple[tuple[int, ...], int]], list[tuple[tuple[int, ...], int]]]


def version_key(version: str) -> Key:
    """A key that sorts versions as dpkg does: by epoch, upstream version and revision."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return int(epoch) if epoch.isdigit() else 0, _part_key(upstream), _part_key(revision)


def _part_key(part: str) -> list[tuple[tuple[int, ...], int]]:
    """Turns of text and number; `~` sorts before the end, the end before letters, letters before the rest."""
    key = [((*map(_rank, text), 0), int(digits or 0)) for text, digits in _PARTS.findall(part)]
    while key and key[-1] == _END:
        key.pop()
    return [*key, _END]


def _rank(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256


def newest(versions: Iterable[str]) -> str | None:
    """The highest of these versions."""
    return max(versions, key=version_key, default=None)


def version_pattern(text: str) -> str:
    """A version asked for: `=1.2.3` or `=1.2*` (a glob over the whole version), or `>=1.2`."""
    found = _PATTERN.fullmatch(text)
    if found is None or (found[1] == ">=" and re.search(r"[*?]", found[2])):
        raise ValueError(f'"{text}" is not a version: write "=1.2.3-1", "=1.2*" or ">=1.2"')
    return text


def matches(version: str, pattern: str) -> bool:
    """Whether a version is one that the pattern asks for."""
    found = _PATTERN.fullmatch(pattern)
    if found is None:
        return False
    if found[1] == ">=":
        return version_key(version) >= version_key(found[2])
    return fnmatchcase(version, found[2])
