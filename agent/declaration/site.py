"""A site and all it includes and selects, read but not yet filled in: values, secrets, states, declarations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.declaration.document import Document, Reader, dotted, nearest
from agent.declaration.lines import KeyPath
from agent.declaration.parameters import Parameter, read_parameters
from agent.errors import Problem
from agent.host.secrets import SecretSource
from agent.resources import KINDS

SITE = "site"
"""The name under which resources that stand in site.toml itself are reported."""
_SECTIONS = ("site", "values", "secrets", "state", "parameters")
_STATE_NAME = re.compile(r"[a-z][a-z0-9_-]*")


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
    secrets: dict[str, SecretSource] = field(default_factory=dict)
    states: list[StateSource] = field(default_factory=list)

    def problem(self, message: str, path: KeyPath, *, hint: str = "") -> Problem:
        """A problem at a value, wherever that was written."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                document, own = self.origins[path[:length]]
                found = document.problem(message, own, hint=hint)
                found.key = dotted(("values", *path))
                return found
        line = self.document.line(("values",)) if self.document else 0
        shown = self.reader.shown(self.path)
        return Problem(message, file=shown, line=line, key=dotted(("values", *path)), hint=hint)


class Loader:
    """Follows a site file through its includes and states."""

    def __init__(self, path: Path, shipped: Path | None) -> None:
        self.site = Site(path, Reader(path.parent))
        self.reader = self.site.reader
        self.problems = self.reader.problems
        self.trees = [path.parent / "states", *([shipped] if shipped else [])]
        self.own = StateSource(SITE, path.parent)
        self._selected: list[tuple[str, Document, KeyPath]] = []
        self._visited: dict[Path, Document] = {}
        self._loaded: dict[str, StateSource | None] = {}

    def load(self) -> Site:
        """Read everything. What is wrong is in the reader's problems."""
        self._include(self.site.path)
        for name, document, path in self._selected:
            self._select(name, document, path, ())
        self.site.states.append(self.own)
        return self.site

    def _include(self, path: Path) -> None:
        if path in self._visited:
            return
        document = self.reader.document(path)
        if document is None:
            return
        self._visited[path] = document
        self.site.document = self.site.document or document
        self._sections(document, self.own, _SECTIONS)
        self._values(document)
        self._state_section(document, self.own)
        section = self._table(document, ("site",), ("states", "include"))
        for i, name in enumerate(self._strings(document, section, ("site", "states"))):
            self._selected.append((name, document, ("site", "states", i)))
        for i, pattern in enumerate(self._strings(document, section, ("site", "include"))):
            self._include_pattern(document, pattern, ("site", "include", i))

    def _include_pattern(self, document: Document, pattern: str, at: KeyPath) -> None:
        if pattern.startswith("/") or ".." in pattern.split("/"):
            base, pattern = Path(document.path.parent, pattern).parent, pattern.rpartition("/")[2]
        else:
            base = document.path.parent
        found = self.reader.listing(base, pattern)
        if not found and not any(char in pattern for char in "*?["):
            self.problems.append(document.problem(f'there is no file "{pattern}" to include', at))
        for path in found:
            self._include(path)

    def _sections(self, document: Document, owner: StateSource, sections: tuple[str, ...]) -> None:
        for key, table in document.data.items():
            if key in KINDS:
                self._declarations(document, owner, key, table)
            elif key not in sections:
                where = "belongs in a site file, not in a state" if key in _SECTIONS else "is no section and no kind"
                self.problems.append(
                    document.problem(f'"{key}" {where}', (key,), hint=nearest(key, (*sections, *KINDS)))
                )
        self._secrets(document)
        owner.parameters.update(read_parameters(document, self.problems))

    def _declarations(self, document: Document, owner: StateSource, kind: str, tables: Any) -> None:
        if not isinstance(tables, dict):
            self.problems.append(document.problem(f"must be tables: [{kind}.NAME]", (kind,)))
            return
        for name, table in tables.items():
            if not isinstance(table, dict):
                message = f"is not inside a resource: declare [{kind}.NAME]"
                self.problems.append(document.problem(message, (kind, name)))
                continue
            owner.declarations.append(Declaration(kind, name, table, document))

    def _table(self, document: Document, path: KeyPath, keys: tuple[str, ...]) -> dict[str, Any]:
        table: Any = document.data
        for part in path:
            table = table.get(part, {})
        if not isinstance(table, dict):
            self.problems.append(document.problem("must be a table", path))
            return {}
        for key in table:
            if key not in keys:
                self.problems.append(document.problem("unknown key", (*path, key), hint=nearest(key, keys)))
        return table

    def _strings(self, document: Document, table: dict[str, Any], path: KeyPath) -> list[str]:
        value = table.get(str(path[-1]), [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.problems.append(document.problem("must be a list of strings", path))
            return []
        return value

    def _secrets(self, document: Document) -> None:
        tables = document.data.get("secrets", {})
        if not isinstance(tables, dict):
            self.problems.append(document.problem("must be tables: [secrets.NAME]", ("secrets",)))
            return
        for name in tables:
            path = ("secrets", name)
            table = self._table(document, path, ("file", "generate", "credential"))
            source = SecretSource.declared(name, table, document.path.parent)
            if isinstance(source, str):
                self.problems.append(document.problem(source, path))
            else:
                self.site.secrets.setdefault(name, source)

    def _state_section(self, document: Document, owner: StateSource) -> None:
        section = self._table(document, ("state",), ("summary", "needs"))
        summary = section.get("summary", "")
        if not isinstance(summary, str):
            self.problems.append(document.problem("must be a string", ("state", "summary")))
        else:
            owner.summary = summary
        if owner is self.own:
            for i, name in enumerate(self._strings(document, section, ("state", "needs"))):
                self._selected.append((name, document, ("state", "needs", i)))

    def _values(self, document: Document) -> None:
        values = document.data.get("values", {})
        if not isinstance(values, dict):
            self.problems.append(document.problem("must be a table", ("values",)))
            return
        self._merge(self.site.values, values, document, (), ("values",))

    def _merge(
        self, into: dict[str, Any], table: dict[str, Any], document: Document, at: KeyPath, own: KeyPath
    ) -> None:
        for key, value in table.items():
            path, place = (*at, key), (*own, key)
            if key not in into:
                into[key] = {} if isinstance(value, dict) else list(value) if _tables(value) else value
                self.site.origins[path] = (document, place)
                if isinstance(value, dict):
                    self._merge(into[key], value, document, path, place)
                elif _tables(value):
                    self._note_items(document, path, place, 0, len(value))
            elif isinstance(value, dict) and isinstance(into[key], dict):
                self._merge(into[key], value, document, path, place)
            elif _tables(value) and _tables(into[key]):
                self._note_items(document, path, place, len(into[key]), len(value))
                into[key].extend(value)
            else:
                first, first_place = self.site.origins[path]
                message = f"is given twice; the first is at {first.shown}:{first.line(first_place)}"
                self.problems.append(document.problem(message, place))

    def _note_items(self, document: Document, path: KeyPath, place: KeyPath, start: int, count: int) -> None:
        for i in range(count):
            self.site.origins[(*path, start + i)] = (document, (*place, i))

    def _select(self, name: str, document: Document, at: KeyPath, above: tuple[str, ...]) -> None:
        if name in above:
            cycle = " → ".join([*above[above.index(name) :], name])
            self.problems.append(document.problem(f"states need each other in a circle: {cycle}", at))
            return
        if name in self._loaded:
            return
        found = self._find_state(name)
        if found is None:
            hint = nearest(name, self.available()) or f"states are looked up in {' and '.join(map(str, self.trees))}"
            self.problems.append(document.problem(f'there is no state "{name}"', at, hint=hint))
            self._loaded[name] = None
            return
        text = self.reader.document(found)
        if text is None:
            self._loaded[name] = None
            return
        state = StateSource(name, found.parent)
        self._sections(text, state, ("state", "parameters", "secrets"))
        self._state_section(text, state)
        section = text.data.get("state", {})
        needs = self._strings(text, section if isinstance(section, dict) else {}, ("state", "needs"))
        for i, needed in enumerate(needs):
            self._select(needed, text, ("state", "needs", i), (*above, name))
        self._loaded[name] = state
        self.site.states.append(state)

    def _find_state(self, name: str) -> Path | None:
        if not _STATE_NAME.fullmatch(name):
            return None
        for tree in self.trees:
            if self.reader.exists(tree / name / "state.toml"):
                return tree / name / "state.toml"
        return None

    def available(self) -> Iterator[str]:
        """The names of all states that could be selected."""
        for tree in self.trees:
            for path in tree.glob("*/state.toml"):
                yield path.parent.name


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
