"""Follows a site file through its includes and the states that it selects."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.declaration import listing
from agent.declaration.document import Document, Reader, nearest
from agent.declaration.lines import KeyPath
from agent.declaration.parameters import RESERVED, read_parameters
from agent.declaration.site import SITE, Declaration, SecretDeclaration, Site, StateSource
from agent.resources import KINDS

_IN_SITE = ("site", "values", "secrets", "state", "parameters")
_IN_STATE = ("state", "parameters", "secrets")
_STATE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")


class Loader:
    """Reads a site, all that it includes, and the states that it selects."""

    def __init__(self, path: Path, shipped: Path | None) -> None:
        self.site = Site(path, Reader(path.parent))
        self.reader = self.site.reader
        self.problems = self.reader.problems
        self.trees = [path.parent / "states", *([shipped] if shipped else [])]
        self.own = StateSource(SITE, path.parent)
        self._selected: list[tuple[str, Document, KeyPath]] = []
        self._visited: set[str] = set()
        self._loaded: set[str] = set()

    def load(self) -> Site:
        """Read everything. What is wrong is in the reader's problems."""
        self._include(self.site.path)
        for name, document, path in self._selected:
            self._select(name, document, path, ())
        self.site.states.append(self.own)
        self.site.available = self._available
        return self.site

    # Documents of the site itself

    def _include(self, path: Path) -> None:
        identity = os.path.realpath(path)
        if identity in self._visited:
            return
        self._visited.add(identity)
        document = self.reader.document(path)
        if document is None:
            return
        self.site.document = self.site.document or document
        self._sections(document, self.own, _IN_SITE)
        values = self._table(document, ("values",), None)
        self.site.merge(values, document)
        self._select_later(document, "state", "needs")
        section = self._table(document, ("site",), ("states", "include"))
        self._select_later(document, "site", "states")
        for i, pattern in self._strings(document, section, ("site", "include")):
            self._include_pattern(document, pattern, ("site", "include", i))

    def _select_later(self, document: Document, section: str, key: str) -> None:
        table = document.data.get(section)
        if isinstance(table, dict):
            names = self._strings(document, table, (section, key))
            self._selected += [(name, document, (section, key, i)) for i, name in names]

    def _include_pattern(self, document: Document, pattern: str, at: KeyPath) -> None:
        folder = document.path.parent
        found = self.reader.listing(folder, pattern)
        if not found and not listing.is_glob(pattern):
            whole = (folder / pattern).is_dir() if "\0" not in pattern and len(pattern) < 256 else False
            hint = f'to include what a folder holds, write "{pattern.rstrip("/")}/*.toml"' if whole else ""
            self.problems.append(document.problem(f'there is no file "{pattern}" to include', at, hint=hint))
        for path in found:
            self._include(path)

    # Sections

    def _sections(self, document: Document, owner: StateSource, sections: tuple[str, ...]) -> None:
        first = len(owner.declarations)
        for key, table in document.data.items():
            if key in KINDS:
                self._declarations(document, owner, key, table)
            elif key not in sections:
                self._unknown_section(document, key, table, sections)
        # TOML's tables bring kinds together; the order of work is that of the lines.
        owner.declarations[first:] = sorted(owner.declarations[first:], key=lambda each: document.line(each.path))
        self._secrets(document, owner)
        self._summary(document, owner)
        for name, parameter in read_parameters(document, self.problems).items():
            if name in owner.parameters:
                known = owner.parameters[name]
                message = f"is declared twice; the first is at {known.document.shown}:{known.document.line(known.path)}"
                self.problems.append(document.problem(message, parameter.path))
            owner.parameters.setdefault(name, parameter)

    def _unknown_section(self, document: Document, key: str, table: Any, sections: tuple[str, ...]) -> None:
        if key in _IN_SITE:
            message, hint = f"[{key}] belongs in a site file, not in a state", ""
        elif isinstance(table, dict | list):
            message = f'"{key}" is no section and no kind'
            hint = nearest(key, (*sections, *KINDS)) or f"sections are {', '.join(sections)}; kinds {', '.join(KINDS)}"
        else:
            message = f'"{key}" stands in no section'
            hint = "values go into [values]" if sections is _IN_SITE else "parameters are declared as [parameters.NAME]"
        self.problems.append(document.problem(message, (key,), hint=hint))

    def _declarations(self, document: Document, owner: StateSource, kind: str, tables: Any) -> None:
        if not isinstance(tables, dict):
            self.problems.append(document.problem(f"must be tables: [{kind}.NAME]", (kind,)))
            return
        for name, table in tables.items():
            if isinstance(table, dict):
                owner.declarations.append(Declaration(kind, name, table, document))
                continue
            message = f"is not inside a resource: declare [{kind}.NAME]"
            if isinstance(table, list):
                message = f"is a list of tables: a resource is declared once, as [{kind}.NAME]"
            self.problems.append(document.problem(message, (kind, name)))

    def _secrets(self, document: Document, owner: StateSource) -> None:
        for name, table in self._table(document, ("secrets",), None).items():
            path = ("secrets", name)
            if not isinstance(table, dict):
                self.problems.append(document.problem("must be a table: [secrets.NAME]", path))
                continue
            declared = SecretDeclaration(name, table, document, owner.name)
            first = self.site.secrets.setdefault(name, declared)
            if first is not declared and not _agree(first, declared):
                where = f"{first.document.shown}:{first.document.line(first.path)}"
                message = f"this secret is declared twice; the first is at {where}"
                self.problems.append(document.problem(message, path))

    def _summary(self, document: Document, owner: StateSource) -> None:
        section = self._table(document, ("state",), ("summary", "needs"))
        summary = section.get("summary", "")
        if not isinstance(summary, str):
            self.problems.append(document.problem("must be a string", ("state", "summary")))
        elif owner.name != SITE:
            owner.summary = summary

    def _table(self, document: Document, path: tuple[str], keys: tuple[str, ...] | None) -> dict[str, Any]:
        """A section; `keys` are all that it can have."""
        table = document.data.get(path[0], {})
        if not isinstance(table, dict):
            self.problems.append(document.problem("must be a table", path))
            return {}
        for key in table if keys is not None else ():
            if key not in (keys or ()):
                hint = nearest(key, keys or ())
                self.problems.append(document.problem(f"unknown key of [{path[0]}]", (*path, key), hint=hint))
        return table

    def _strings(self, document: Document, table: dict[str, Any], path: KeyPath) -> list[tuple[int, str]]:
        """The strings of a list, each with its place in the list."""
        value = table.get(str(path[-1]), [])
        if not isinstance(value, list):
            self.problems.append(document.problem("must be a list of strings", path))
            return []
        for i, item in enumerate(value):
            if not isinstance(item, str):
                self.problems.append(document.problem("must be a string", (*path, i)))
        return [(i, item) for i, item in enumerate(value) if isinstance(item, str)]

    # States

    def _select(self, name: str, document: Document, at: KeyPath, above: tuple[str, ...]) -> None:
        if name in above:
            cycle = " → ".join([*above[above.index(name) :], name])
            self.problems.append(document.problem(f"states need each other in a circle: {cycle}", at))
            return
        if name in self._loaded:
            return
        found = self._find_state(name)
        if found is None:
            self._no_state(name, document, at)
            return
        text = self.reader.document(found)
        if text is not None:
            state = StateSource(name, found.parent)
            self._sections(text, state, _IN_STATE)
            section = text.data.get("state", {})
            needs = self._strings(text, section if isinstance(section, dict) else {}, ("state", "needs"))
            for i, needed in needs:
                self._select(needed, text, ("state", "needs", i), (*above, name))
            self.site.states.append(state)
        self._loaded.add(name)

    def _no_state(self, name: str, document: Document, at: KeyPath) -> None:
        if name == SITE or name in RESERVED:
            message, hint = f'a state cannot have the name "{name}"', "it has a meaning of its own"
        elif not _STATE_NAME.fullmatch(name):
            message, hint = f'"{name}" is not the name of a state', 'letters, digits, "-" and "_"'
        else:
            message = f'there is no state "{name}"'
            hint = nearest(name, self._available())
            hint = hint or f"states are folders with a state.toml in {' and '.join(map(str, self.trees))}"
        self.problems.append(document.problem(message, at, hint=hint))

    def _find_state(self, name: str) -> Path | None:
        if not _STATE_NAME.fullmatch(name) or name == SITE or name in RESERVED:
            return None
        for tree in self.trees:
            if self.reader.exists(tree / name / "state.toml"):
                return tree / name / "state.toml"
        return None

    def _available(self) -> Iterator[str]:
        for tree in self.trees:
            for path in listing.files(str(tree), "*/state.toml"):
                yield Path(path).parent.name


def _agree(first: SecretDeclaration, second: SecretDeclaration) -> bool:
    """Whether two declarations of a secret may stand side by side: the site overrides a state, or both say the same."""
    if SITE in (first.owner, second.owner):
        return first.owner != second.owner
    return first.table == second.table and first.document.path.parent == second.document.path.parent
