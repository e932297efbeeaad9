"""What the documents of a site say, not yet filled in: values, secrets, states, declarations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.declaration.document import Document, Reader, dotted
from agent.declaration.lines import KeyPath
from agent.declaration.parameters import Parameter
from agent.errors import Problem

SITE = "site"
"""The name under which resources that stand in site.toml itself are reported."""


@dataclass
class Declaration:
    """One resource as it is written: nothing filled in, nothing checked."""

    kind: str
    name: str
    table: dict[str, Any]
    document: Document

    @property
    def path(self) -> KeyPath:
        """Its key in the document."""
        return (self.kind, self.name)

    @property
    def source(self) -> str:
        """Where it stands: `file:line`."""
        return f"{self.document.shown}:{self.document.line(self.path)}"


@dataclass
class SecretDeclaration:
    """Where a secret comes from, as it is written; `owner` is the state that says so, or the site."""

    name: str
    table: dict[str, Any]
    document: Document
    owner: str

    @property
    def path(self) -> KeyPath:
        """Its key in the document."""
        return ("secrets", self.name)


@dataclass
class StateSource:
    """A selected state, or the site itself: where it stands, its parameters and declarations."""

    name: str
    folder: Path
    summary: str = ""
    parameters: dict[str, Parameter] = field(default_factory=dict)
    declarations: list[Declaration] = field(default_factory=list)


@dataclass
class Site:
    """Everything that the documents of a site say; `document` is the site file itself, where it could be read."""

    path: Path
    reader: Reader
    document: Document | None = None
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, tuple[Document, KeyPath]] = field(default_factory=dict)
    secrets: dict[str, SecretDeclaration] = field(default_factory=dict)
    states: list[StateSource] = field(default_factory=list)
    available: Callable[[], Iterable[str]] = tuple
    """Gives the names of all states that could be selected."""

    def problem(self, message: str, path: KeyPath, *, hint: str = "") -> Problem:
        """A problem at a value, wherever that was written."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                document, own = self.origins[path[:length]]
                found = document.problem(message, (*own, *path[length:]), hint=hint)
                found.key = dotted(("values", *path))
                return found
        line = self.document.line(("values",)) if self.document else 0
        shown = self.reader.shown(self.path)
        return Problem(message, file=shown, line=line, key=dotted(("values", *path)), hint=hint)

    def merge(self, values: dict[str, Any], document: Document) -> None:
        """Add the values of one document: tables are joined, arrays of tables appended, all else stands once."""
        self._merge(self.values, values, document, (), ("values",))

    def _merge(
        self, into: dict[str, Any], table: dict[str, Any], document: Document, at: KeyPath, own: KeyPath
    ) -> None:
        for key, value in table.items():
            path, place = (*at, key), (*own, key)
            known = into.get(key)
            if key not in into:
                into[key] = {} if isinstance(value, dict) else list(value) if isinstance(value, list) else value
                self.origins[path] = (document, place)
                if isinstance(value, dict):
                    self._merge(into[key], value, document, path, place)
                elif isinstance(value, list):
                    self._note_items(document, path, place, 0, len(value))
            elif isinstance(value, dict) and isinstance(known, dict):
                self._merge(known, value, document, path, place)
            elif isinstance(known, list) and _appendable(value) and _appendable(known):
                self._note_items(document, path, place, len(known), len(value))
                known.extend(value)
            else:
                first, first_place = self.origins[path]
                message = f"is given twice; the first is at {first.shown}:{first.line(first_place)}"
                self.reader.problems.append(document.problem(message, place))

    def _note_items(self, document: Document, path: KeyPath, place: KeyPath, start: int, count: int) -> None:
        for i in range(count):
            self.origins[(*path, start + i)] = (document, (*place, i))


def _appendable(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
