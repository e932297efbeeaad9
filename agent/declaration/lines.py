"""On which line of a TOML document each key stands: tomllib gives the values and not the places.

The document is known to be valid (tomllib has read it), so this only has to find its way, not to judge.
"""

from __future__ import annotations

import contextlib
import re
import tomllib

KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\.)*"' + r"|'[^'\n]*'")
_STRING = re.compile(r'"""(?:[^\\]|\\.)*?"""+|' + r"'''.*?'''+|" + r'"(?:[^"\\\n]|\\.)*"' + r"|'[^'\n]*'", re.DOTALL)
_SCALAR = re.compile(r"[^,\]}#\n]+")


class Lines:
    """The lines of all keys and tables of one document."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted = 0
        self._line = 1
        self._known: dict[KeyPath, int] = {}
        self._arrays: dict[KeyPath, int] = {}
        with contextlib.suppress(RecursionError):  # deeper than any document is allowed to be
            self._scan()

    def of(self, path: KeyPath) -> int:
        """The line of a key, or of the nearest table around it that is written out; 1 where there is none."""
        while path:
            if path in self._known:
                return self._known[path]
            path = path[:-1]
        return 1

    def _scan(self) -> None:
        table: KeyPath = ()
        while self._skip(_BLANK) < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._key_value(table)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        if found:
            self._at = found.end()
        return self._at

    def _here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _note(self, path: KeyPath, line: int) -> None:
        for length in range(1, len(path) + 1):
            self._known.setdefault(path[:length], line)

    def _header(self) -> KeyPath:
        line = self._here()
        array = self._text.startswith("[[", self._at)
        self._at += 2 if array else 1
        path = self._in_last_items(self._key())
        self._at += 2 if array else 1
        if array:
            self._arrays[path] = self._arrays.get(path, -1) + 1
            path = (*path, self._arrays[path])
        self._known[path] = line
        self._note(path, line)
        return path

    def _in_last_items(self, keys: list[str]) -> KeyPath:
        path: KeyPath = ()
        for i, key in enumerate(keys):
            path = (*path, key)
            if path in self._arrays and i + 1 < len(keys):
                path = (*path, self._arrays[path])
        return path

    def _key(self) -> list[str]:
        parts = []
        while True:
            self._skip(_SPACE)
            start = self._at
            if self._text[start] in "\"'":
                self._skip(_QUOTED)
                parts.append(str(tomllib.loads(f"key = {self._text[start : self._at]}")["key"]))
            else:
                self._skip(_BARE)
                parts.append(self._text[start : self._at])
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return parts
            self._at += 1

    def _key_value(self, table: KeyPath) -> None:
        line = self._here()
        path = (*table, *self._key())
        self._at += 1
        self._note(path, line)
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        char = self._text[self._at]
        if char == "[":
            self._sequence(path)
        elif char == "{":
            self._inline_table(path)
        elif char in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _sequence(self, path: KeyPath) -> None:
        self._at += 1
        for index in range(len(self._text)):
            self._skip(_BLANK)
            if self._text[self._at] == "]":
                break
            self._known[(*path, index)] = self._here()
            self._value((*path, index))
            self._skip(_BLANK)
            if self._text[self._at] == ",":
                self._at += 1
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while True:
            self._skip(_BLANK)
            if self._text[self._at] == "}":
                self._at += 1
                return
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._key_value(path)
