"""One TOML document: its data, where each key stands, and the problems found in it."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from agent.declaration import listing
from agent.declaration.lines import KeyPath, Lines
from agent.errors import Problem

_DEEPEST = 64
"""More levels than any declaration has, and few enough for every walk through a document."""


@dataclass
class Document:
    """A document that was read: `shown` is its path as messages give it."""

    path: Path
    shown: str
    text: str
    data: dict[str, Any]

    @cached_property
    def lines(self) -> Lines:
        """Where its keys stand."""
        return Lines(self.text)

    def line(self, path: KeyPath) -> int:
        """The line of a key."""
        return self.lines.of(path)

    def problem(self, message: str, path: KeyPath = (), *, hint: str = "") -> Problem:
        """A problem at a key of this document."""
        return Problem(message, file=self.shown, line=self.line(path), key=dotted(path), hint=hint)


def dotted(path: KeyPath) -> str:
    """A key path as TOML writes it: `file."/etc/motd".mode`."""
    words = []
    for part in path:
        if isinstance(part, int):
            words.append(f"[{part}]")
        else:
            bare = part.replace("_", "").replace("-", "").isalnum() and part.isascii()
            words.append(("." if words else "") + (part if bare else json.dumps(part, ensure_ascii=False)))
    return "".join(words)


def nearest(word: str, words: Iterable[str]) -> str:
    """A hint with the right word that is most like this one, or nothing."""
    known = {each.lower(): each for each in sorted(set(words), reverse=True)}
    found = difflib.get_close_matches(word.lower()[:200], sorted(known), n=1, cutoff=0.6)
    return f'did you mean "{known[found[0]]}"?' if found else ""


class Reader:
    """Reads files of a site, remembers every one of them (what it was made from), and collects problems."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[Problem] = []
        self.contents: dict[str, bytes | None] = {}
        self.listings: dict[tuple[str, str], list[str]] = {}

    def shown(self, path: Path) -> str:
        """A path as messages give it: relative to the site's folder where it lies below it."""
        return str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else str(path)

    def exists(self, path: Path) -> bool:
        """Whether a file is there; that it is not is remembered too."""
        if os.path.isfile(path):
            return True
        self.contents.setdefault(str(path), None)
        return False

    def listing(self, folder: Path, pattern: str) -> list[Path]:
        """The files that a glob below a folder finds, in order; remembered."""
        found = listing.files(str(folder), pattern)
        self.listings[str(folder), pattern] = found
        return [Path(path) for path in found]

    def text(self, path: Path) -> str | None:
        """The text of a file, or None and a problem."""
        shown = self.shown(path)
        try:
            content = path.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            self.contents.setdefault(str(path), None)
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.problems.append(Problem(f"cannot be read: {reason}", file=shown))
            return None
        self.contents[str(path)] = content
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            message = f"is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}"
            self.problems.append(Problem(message, file=shown, line=line, hint="save it as UTF-8"))
            return None

    def document(self, path: Path) -> Document | None:
        """A TOML document, or None and a problem."""
        text = self.text(path)
        if text is None:
            return None
        text = text.replace("\r\n", "\n")
        try:
            data = tomllib.loads(text)
            unfit = _unfit(data)
        except (ValueError, RecursionError) as error:  # int() raises a plain ValueError for thousands of digits
            self.problems.append(_syntax_problem(self.shown(path), text, error))
            return None
        document = Document(path, self.shown(path), text, data)
        if unfit is not None:
            self.problems.append(document.problem(unfit[1], unfit[0][:_DEEPEST]))
            return None
        return document


def _unfit(data: dict[str, Any]) -> tuple[KeyPath, str] | None:
    """What TOML's grammar allows and no document of a site needs: where it stands, and what is wrong with it."""
    stack: list[tuple[KeyPath, Any]] = [((), data)]
    while stack:
        path, value = stack.pop()
        if len(path) > _DEEPEST:
            return path, f"nested too deeply: {_DEEPEST} levels are the most"
        if isinstance(value, dict):
            stack += [((*path, key), item) for key, item in value.items()]
        elif isinstance(value, list):
            stack += [((*path, i), item) for i, item in enumerate(value)]
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            return path, "a whole number has 64 bits at most"
    return None


def _syntax_problem(shown: str, text: str, error: Exception) -> Problem:
    message, _, place = str(error).partition(" (at line ")
    line = text.count("\n") + 1
    if text.startswith("\ufeff"):
        return Problem("begins with a byte order mark", file=shown, line=1, hint="save it as UTF-8 without BOM")
    if place[:1].isdigit():
        line = int(place.split(",")[0])
        message += f" (column {place.rpartition(' ')[2].rstrip(')')})"
    elif isinstance(error, RecursionError):
        line, message = 1, "nested too deeply"
    elif not isinstance(error, tomllib.TOMLDecodeError):
        line, message = _line_of_long_number(text), "a whole number has 64 bits at most"
    return Problem(f"not valid TOML: {message}", file=shown, line=line)


def _line_of_long_number(text: str) -> int:
    found = re.search(r"[0-9][0-9_]{4000}", text)
    return text.count("\n", 0, found.start()) + 1 if found else 1
