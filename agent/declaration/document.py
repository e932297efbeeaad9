"""One TOML document: its data, where each key stands, and the problems found in it."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from agent.declaration.lines import KeyPath, Lines
from agent.errors import Problem


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
            words.append(("." if words else "") + (part if bare else f'"{part}"'))
    return "".join(words)


def nearest(word: str, words: Iterable[str]) -> str:
    """A hint with the right word that is most like this one, or nothing."""
    found = difflib.get_close_matches(word, sorted(set(words)), n=1, cutoff=0.6)
    return f'did you mean "{found[0]}"?' if found else ""


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
        if path.is_file():
            return True
        self.contents.setdefault(str(path), None)
        return False

    def listing(self, folder: Path, pattern: str) -> list[Path]:
        """The files that a glob below a folder finds, in order; remembered."""
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
        self.listings[str(folder), pattern] = [str(path) for path in found]
        return found

    def text(self, path: Path) -> str | None:
        """The text of a file, or None and a problem."""
        shown = self.shown(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            self.contents.setdefault(str(path), None)
            self.problems.append(Problem(f"cannot be read: {error.strerror}", file=shown))
            return None
        self.contents[str(path)] = content
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            message = f"is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}"
            self.problems.append(Problem(message, file=shown, line=line))
            return None

    def document(self, path: Path) -> Document | None:
        """A TOML document, or None and a problem."""
        text = self.text(path)
        if text is None:
            return None
        text = text.replace("\r\n", "\n")
        try:
            data = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            self.problems.append(_syntax_problem(self.shown(path), text, error))
            return None
        return Document(path, self.shown(path), text, data)


def _syntax_problem(shown: str, text: str, error: Exception) -> Problem:
    message, _, place = str(error).partition(" (at line ")
    line = text.count("\n") + 1
    if place[:1].isdigit():
        line = int(place.split(",")[0])
        message += f" (column {place.rpartition(' ')[2].rstrip(')')})"
    elif isinstance(error, RecursionError):
        message = "nested too deeply"
    return Problem(f"not valid TOML: {message}", file=shown, line=line)
