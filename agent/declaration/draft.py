"""From one declaration to resources that are valid by themselves: `when`, `for_each`, filling in, validation."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import Any

from agent.declaration import listing
from agent.declaration.document import dotted, nearest
from agent.declaration.drafts import Draft, Drafts, tables_with
from agent.declaration.lines import KeyPath
from agent.declaration.names import Unavailable
from agent.declaration.parameters import toml_type
from agent.declaration.render import Renderer
from agent.declaration.schema import field_names, identity, validated
from agent.declaration.secretvalue import RenderError
from agent.declaration.site import SITE, Declaration, Site, StateSource
from agent.errors import Problem
from agent.resources import kind_class
from agent.secret import SecretText

_META = ("when", "for_each")
Names = Mapping[str, Any]


class _Filling:
    """One resource being filled in: which of its strings came from expressions, and which could not be filled in."""

    def __init__(self, declaration: Declaration, names: Names) -> None:
        self.declaration = declaration
        self.names = names
        self.computed: set[KeyPath] = set()
        self.failed: set[KeyPath] = {(key,) for key in declaration.table if key not in field_names(declaration.kind)}
        self.failed -= {(key,) for key in _META}

    def within(self, names: Names) -> _Filling:
        """The same resource, with the names that one item of a list sees."""
        inner = copy(self)
        inner.names = names
        return inner

    def is_failed(self, path: KeyPath) -> bool:
        """Whether a problem at this path follows from one that was reported."""
        if not path:
            return bool(self.failed)
        return any(path[: len(each)] == each or each[: len(path)] == path for each in self.failed)


class Drafter:
    """Makes drafts of declarations. Problems go to the site's list."""

    def __init__(self, site: Site, renderer: Renderer) -> None:
        self._reader = site.reader
        self._problems = site.reader.problems
        self._renderer = renderer
        self.drafts = Drafts()

    def add(self, declaration: Declaration, state: StateSource, names: Names) -> None:
        """Make the drafts that one declaration stands for."""
        known = field_names(declaration.kind)
        for key in declaration.table:
            if key not in known and key not in _META:
                hint = nearest(key, (*known, *_META)) or f"see `agent docs {declaration.kind}`"
                self._problem(declaration, f"unknown key of {declaration.kind}", (key,), hint=hint)
        table = {key: value for key, value in declaration.table.items() if key in known}
        key = ""
        try:
            key = "for_each"
            several = list(self._items(declaration, names))
            for item_names in several:
                key = "when"
                wanted = self._wanted(declaration, item_names)
                key = ""
                if wanted:
                    self._draft(declaration, state, table, item_names)
                else:
                    self._leave_out(declaration, item_names)
            if not several:
                self._open_name(declaration)
        except (RenderError, Unavailable) as error:
            self._report(declaration, error, (key,) if key else ())
            self._open_name(declaration)

    def _open_name(self, declaration: Declaration) -> None:
        self.drafts.open_names.append(f"{declaration.kind}:{declaration.name}")

    def _leave_out(self, declaration: Declaration, names: Names) -> None:
        self.drafts.left_out.add(identity(declaration.kind, self._name(declaration, names)))

    def _items(self, declaration: Declaration, names: Names) -> Iterator[Names]:
        if "for_each" not in declaration.table:
            yield names
            return
        items = self._raw(declaration.table["for_each"], names)
        yield from _with_items(items, names)

    def _raw(self, value: Any, names: Names) -> Any:
        """Filled in, with secrets as expressions see them."""
        if isinstance(value, str):
            return self._renderer.value(value, names)
        if isinstance(value, list):
            return [self._raw(item, names) for item in value]
        if isinstance(value, dict):
            return {str(self._raw(key, names)): self._raw(item, names) for key, item in value.items()}
        return value

    def _wanted(self, declaration: Declaration, names: Names) -> bool:
        given = declaration.table.get("when", True)
        wanted = self._renderer.string(given, names) if isinstance(given, str) else given
        if isinstance(wanted, SecretText | str) or (given is wanted and not isinstance(wanted, bool)):
            raise RenderError(f"must give true or false, not {toml_type(wanted)}")
        return bool(wanted)

    def _name(self, declaration: Declaration, names: Names) -> str:
        name = self._renderer.string(declaration.name, names)
        if isinstance(name, int | float) and not isinstance(name, bool):
            name = str(name)
        if not isinstance(name, str):
            raise RenderError(f"the name must come to a text, not {toml_type(name)}")
        if not name.strip():
            raise RenderError(f"a {declaration.kind} cannot have an empty name")
        return name

    def _draft(self, declaration: Declaration, state: StateSource, table: dict[str, Any], names: Names) -> None:
        filling = _Filling(declaration, names)
        filled = {key: self._filled_in(value, filling, (key,), (key,)) for key, value in table.items()}
        filled = {key: value for key, value in filled.items() if value is not None}
        filled["name"] = self._name(declaration, names)
        result = validated(declaration.kind, filled, filling.computed)
        if isinstance(result, list):
            for problem in result:
                path = () if problem.path == ("name",) else problem.path
                if not filling.is_failed(path):
                    self._problem(declaration, problem.message, path, hint=problem.hint)
            self._open_name(declaration)
            return
        draft = Draft(declaration, state, result)
        self._files_beside(draft, names)
        same = identity(declaration.kind, draft.fields["name"])
        if same in self.drafts.identities:
            first = self.drafts.by_id[self.drafts.identities[same]]
            by = " (for_each gives its name more than once)" if first.declaration is declaration else ""
            self._problem(declaration, f"{first.id} is declared twice; the first is at {first.source}{by}", ())
            return
        self.drafts.by_id[draft.id] = draft
        self.drafts.identities[same] = draft.id

    def _files_beside(self, draft: Draft, names: Names) -> None:
        folder = draft.declaration.document.path.parent
        if draft.fields.get("template"):
            path = folder / draft.fields["template"]
            if draft.state.name == SITE:
                self.drafts.templates_of_site.add(path)
            try:
                draft.fields["rendered"] = self._renderer.template(path, names)
            except (RenderError, Unavailable) as error:
                self._report(draft.declaration, error, ("template",))
        for key in getattr(kind_class(draft.declaration.kind), "files_beside", ()):
            for table, at in tables_with(draft.fields, key):
                self._file_beside(draft, table, at, folder)

    def _file_beside(self, draft: Draft, table: dict[str, Any], at: KeyPath, folder: Path) -> None:
        path = os.path.normpath(folder / table[str(at[-1])])
        table[str(at[-1])] = path
        if not self._reader.listing(folder, listing.literal(path)):
            shown = self._reader.shown(Path(path))
            what = f"there is no file {shown}"
            if os.path.exists(path):
                what = f"{shown} is a directory" if os.path.isdir(path) else f"{shown} is not a regular file"
            self._problem(draft.declaration, what, at)

    def _filled_in(self, value: Any, filling: _Filling, written: KeyPath, at: KeyPath) -> Any:
        """A value with its expressions filled in; `written` is its path in the document, `at` the one it comes to."""
        if isinstance(value, str) and "{{" in value:
            filling.computed.add(at)
            try:
                return self._renderer.string(value, filling.names)
            except (RenderError, Unavailable) as error:
                self._report(filling.declaration, error, written)
                filling.failed.add(at)
                return ""
        if isinstance(value, list):
            return self._list(value, filling, written, at)
        if isinstance(value, dict):
            filled: dict[str, Any] = {}
            for key, item in value.items():
                name = self._key(key, filling, (*written, key), at)
                if name in filled:
                    self._problem(filling.declaration, f'the key "{name}" comes twice', (*written, key))
                filled[name] = self._filled_in(item, filling, (*written, key), (*at, name))
            return filled
        return value

    def _list(self, value: list[Any], filling: _Filling, written: KeyPath, at: KeyPath) -> list[Any]:
        filled: list[Any] = []
        for i, item in enumerate(value):
            if not (isinstance(item, dict) and "for_each" in item):
                filled.append(self._filled_in(item, filling, (*written, i), (*at, len(filled))))
                continue
            each = {key: inner for key, inner in item.items() if key != "for_each"}
            try:
                several = list(_with_items(self._raw(item["for_each"], filling.names), filling.names))
            except (RenderError, Unavailable) as error:
                self._report(filling.declaration, error, (*written, i, "for_each"))
                filling.failed.add(at)
                continue
            for names in several:
                table = self._filled_in(each, filling.within(names), (*written, i), (*at, len(filled)))
                filled.append({key: inner for key, inner in table.items() if inner is not None})
        return filled

    def _key(self, key: str, filling: _Filling, written: KeyPath, at: KeyPath) -> str:
        if "{{" not in key:
            return key
        own = _Filling(filling.declaration, filling.names)
        filled = self._filled_in(key, own, written, at)
        if isinstance(filled, SecretText):
            self._problem(filling.declaration, "a secret cannot be a key", written)
            own.failed.add(at)
        name = filled if isinstance(filled, str) else str(filled)
        filling.failed |= {(*at, name) for _ in own.failed}
        return name

    def _problem(self, declaration: Declaration, message: str, at: KeyPath, *, hint: str = "") -> None:
        self._problems.append(declaration.document.problem(message, (*declaration.path, *at), hint=hint))

    def _report(self, declaration: Declaration, error: RenderError | Unavailable, at: KeyPath) -> None:
        if isinstance(error, Unavailable):
            return
        if error.file:
            key = dotted((*declaration.path, *at))
            self._problems.append(Problem(error.message, file=error.file, line=error.line, key=key, hint=error.hint))
        else:
            self._problem(declaration, error.message, at, hint=error.hint)


def _with_items(items: Any, names: Names) -> Iterator[Names]:
    """The names that each item of a `for_each` sees."""
    if isinstance(items, Mapping):
        items = [{"key": key, "value": value} for key, value in items.items()]
    if not isinstance(items, list):
        raise RenderError(f"must give a list or a table, not {toml_type(items)}")
    for item in items:
        yield {**names, "item": item}
