"""From a site's documents to its desired state: everything filled in, validated, resolved and put in order."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.declaration.desired import Desired, resource_fields, secrets_in
from agent.declaration.document import Reader, nearest
from agent.declaration.lines import KeyPath
from agent.declaration.render import Renderer, RenderError, Unavailable
from agent.declaration.schema import field_names, validated
from agent.declaration.site import SITE, Declaration, Loader, Site, StateSource
from agent.declaration.values import Values
from agent.errors import DeclarationError, Problem
from agent.facts import Facts
from agent.graph import Cycle, Entry, Graph
from agent.resource import LISTENING
from agent.resources import KINDS, kind_class

_META = ("when", "for_each")


@dataclass
class _Draft:
    """A resource that is valid by itself; its references are not yet resolved."""

    declaration: Declaration
    state: StateSource
    fields: dict[str, Any]
    wrong: bool = False

    @property
    def id(self) -> str:
        return f"{self.declaration.kind}:{self.fields['name']}"

    @property
    def source(self) -> str:
        return f"{self.declaration.document.shown}:{self.declaration.document.line(self.declaration.path)}"


@dataclass
class _Compiler:
    site: Site
    renderer: Renderer
    values: Values
    problems: list[Problem]
    drafts: dict[str, _Draft] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
    dynamic: list[str] = field(default_factory=list)
    templates: set[Path] = field(default_factory=set)

    def compile(self) -> list[Entry]:
        """All entries in order; raises DeclarationError with all problems."""
        self.values.check_all()
        for state in self.site.states:
            names = self.values.names(state)
            for declaration in state.declarations:
                self._declaration(declaration, state, names)
        self.values.check_unread(self._names_used())
        self._check_paths()
        graph = Graph([self._entry(draft) for draft in self.drafts.values()])
        try:
            graph.imply()
        except Cycle as cycle:
            self._problem(self.drafts[cycle.path[0]].declaration, f"requirements in a circle: {cycle}", ())
        if self.problems:
            raise DeclarationError(_sorted(self.problems))
        ordered = graph.in_order()
        for entry in ordered:
            object.__setattr__(entry.resource, "requires", entry.requires)
        return ordered

    # One declaration: when, for_each, fields

    def _declaration(self, declaration: Declaration, state: StateSource, names: Mapping[str, Any]) -> None:
        known = field_names(declaration.kind)
        unknown = [key for key in declaration.table if key not in known and key not in _META]
        for key in unknown:
            hint = nearest(key, (*known, *_META)) or f"see `agent docs {declaration.kind}`"
            message = f"unknown key of {declaration.kind}"
            self.problems.append(declaration.document.problem(message, (*declaration.path, key), hint=hint))
        table = {key: value for key, value in declaration.table.items() if key in known}
        try:
            for item_names in self._items(declaration, names):
                if self._wanted(declaration, item_names):
                    self._draft(declaration, state, table, item_names)
                else:
                    self.left_out.add(f"{declaration.kind}:{self._name(declaration, item_names)}")
        except (RenderError, Unavailable) as error:
            self._report(declaration, error, ())
            self.dynamic.append(f"{declaration.kind}:{declaration.name}")

    def _items(self, declaration: Declaration, names: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        if "for_each" not in declaration.table:
            yield names
            return
        self.dynamic.append(f"{declaration.kind}:{declaration.name}")
        items = declaration.table["for_each"]
        if isinstance(items, str):
            items = self.renderer.string(items, names)
        if isinstance(items, Mapping):
            items = [{"key": key, "value": value} for key, value in items.items()]
        if not isinstance(items, list | tuple):
            self._problem(declaration, "must give a list or a table", ("for_each",))
            return
        for item in items:
            yield {**names, "item": item}

    def _wanted(self, declaration: Declaration, names: Mapping[str, Any]) -> bool:
        wanted = declaration.table.get("when", True)
        if isinstance(wanted, str):
            wanted = self.renderer.string(wanted, names)
        if isinstance(wanted, str):
            self._problem(declaration, f'must give true or false, not the text "{wanted}"', ("when",))
        return bool(wanted)

    def _name(self, declaration: Declaration, names: Mapping[str, Any]) -> str:
        name = self.renderer.string(declaration.name, names)
        if isinstance(name, int | float) and not isinstance(name, bool):
            name = str(name)
        if not isinstance(name, str):
            raise RenderError("the name must come to a text" + (" without secrets" if name is not None else ""))
        return name

    def _draft(
        self, declaration: Declaration, state: StateSource, table: dict[str, Any], names: Mapping[str, Any]
    ) -> None:
        computed: set[KeyPath] = set()
        before = len(self.problems)
        filled = self._filled_in(declaration, deepcopy(table), names, (), computed)
        filled["name"] = self._name(declaration, names)
        result = validated(declaration.kind, filled, computed)
        if isinstance(result, list):
            for problem in result:
                path = () if problem.path == ("name",) else problem.path
                self._problem(declaration, problem.message, path, hint=problem.hint)
            self.dynamic.append(f"{declaration.kind}:{filled['name']}")
            return
        draft = _Draft(declaration, state, result, wrong=len(self.problems) > before)
        self._files_beside(draft, names)
        if draft.id in self.drafts:
            first = self.drafts[draft.id]
            self._problem(declaration, f"{draft.id} is declared twice; the first is at {first.source}", ())
            return
        self.drafts[draft.id] = draft

    def _files_beside(self, draft: _Draft, names: Mapping[str, Any]) -> None:
        folder = draft.declaration.document.path.parent
        if draft.fields.get("template") is not None:
            path = folder / draft.fields["template"]
            self.templates.add(path)
            try:
                draft.fields["rendered"] = self.renderer.template(path, names)
            except (RenderError, Unavailable) as error:
                self._report(draft.declaration, error, ("template",))
                draft.wrong = True
        for key in getattr(kind_class(draft.declaration.kind), "files_beside", ()):
            if draft.fields.get(key) is not None:
                path = folder / draft.fields[key]
                draft.fields[key] = str(path)
                if not path.is_file():
                    self._problem(draft.declaration, f"there is no file {self.site.reader.shown(path)}", (key,))

    def _filled_in(
        self, declaration: Declaration, value: Any, names: Mapping[str, Any], at: KeyPath, computed: set[KeyPath]
    ) -> Any:
        if isinstance(value, str):
            if "{{" not in value:
                return value
            computed.add(at)
            try:
                return self.renderer.string(value, names)
            except (RenderError, Unavailable) as error:
                self._report(declaration, error, at)
                return ""
        if isinstance(value, list):
            return [self._filled_in(declaration, item, names, (*at, i), computed) for i, item in enumerate(value)]
        if isinstance(value, dict):
            filled = {}
            for key, item in value.items():
                name = self._filled_in(declaration, key, names, at, set())
                filled[name if isinstance(name, str) else str(name)] = self._filled_in(
                    declaration, item, names, (*at, key), computed
                )
            return filled
        return value

    def _problem(self, declaration: Declaration, message: str, at: KeyPath, *, hint: str = "") -> None:
        problem = declaration.document.problem(message, (*declaration.path, *at), hint=hint)
        if str(problem) not in {str(each) for each in self.problems[-50:]}:
            self.problems.append(problem)

    def _report(self, declaration: Declaration, error: RenderError | Unavailable, at: KeyPath) -> None:
        if isinstance(error, Unavailable):
            return
        if error.file:
            self.problems.append(Problem(error.message, file=error.file, line=error.line, hint=error.hint))
        else:
            self._problem(declaration, error.message, at, hint=error.hint)

    def _names_used(self) -> set[str]:
        used: set[str] = set()
        own = next(state for state in self.site.states if state.name == SITE)
        for text in _strings([each.table for each in own.declarations] + [each.name for each in own.declarations]):
            used |= self.renderer.names_in(text)
        for declaration in own.declarations:
            template = declaration.table.get("template")
            if isinstance(template, str):
                used |= self.renderer.names_in_template(declaration.document.path.parent / template)
        for text in _strings(self.site.values):
            used |= self.renderer.names_in(text)
        return used

    # All declarations together: paths, references

    def _check_paths(self) -> None:
        owners: dict[str, _Draft] = {}
        shared: list[tuple[str, _Draft]] = []
        for draft in self.drafts.values():
            cls = kind_class(draft.declaration.kind)
            for path in cls(**draft.fields).paths():
                if getattr(cls, "shares_path", False):
                    shared.append((path, draft))
                elif path != draft.fields["name"]:
                    continue  # it only makes something there, such as what a command creates
                elif path in owners and {draft.declaration.kind, owners[path].declaration.kind} != _MOUNT_ON_DIRECTORY:
                    message = f"{path} is declared twice; the first is {owners[path].id} at {owners[path].source}"
                    self._problem(draft.declaration, message, ())
                else:
                    owners[path] = draft
        for path, draft in shared:
            if path in owners:
                message = f"{owners[path].id} at {owners[path].source} declares the whole content of {path}"
                self._problem(draft.declaration, message, ())
        for draft in self.drafts.values():
            if draft.fields.get("purge"):
                below = draft.fields["name"].rstrip("/") + "/"
                all_paths = {*owners, *(path for path, _ in shared)}
                draft.fields["declared"] = sorted(path for path in all_paths if path.startswith(below))

    def _entry(self, draft: _Draft) -> Entry:
        requires: dict[str, None] = {}
        for key in ("requires", *LISTENING):
            references = draft.fields.get(key)
            if references:
                found = [id for i, each in enumerate(references) for id in self._resolved(draft, each, (key, i))]
                draft.fields[key] = list(dict.fromkeys(found))
                requires.update(dict.fromkeys(found))
        requires.pop(draft.id, None)
        resource = kind_class(draft.declaration.kind)(**draft.fields)
        return Entry(resource, draft.state.name, draft.source, list(requires))

    def _resolved(self, draft: _Draft, reference: str, at: KeyPath) -> list[str]:
        kind, colon, name = reference.partition(":")
        if not colon or (kind not in KINDS and kind != "state"):
            hint = nearest(kind, (*KINDS, "state")) if colon else 'write "kind:name"'
            self._problem(draft.declaration, f'"{reference}" is no reference to a resource', at, hint=hint)
            return []
        if kind == "state":
            return self._of_state(draft, name, at)
        if reference in self.drafts:
            return [reference]
        if name.startswith("/"):
            reference = kind + ":" + re.sub(r"/+(\./+)*", "/", name).removesuffix("/")
            if reference in self.drafts:
                return [reference]
        found = [id for id in self.drafts if fnmatch.fnmatchcase(id, reference)] if "*" in reference else []
        if not found and not self._is_left_out(reference):
            hint = nearest(reference, self.drafts)
            self._problem(draft.declaration, f'there is no resource "{reference}"', at, hint=hint)
        return [id for id in found if id != draft.id]

    def _of_state(self, draft: _Draft, name: str, at: KeyPath) -> list[str]:
        states = [state.name for state in self.site.states if state.name != SITE]
        if name not in states:
            hint = nearest(name, states)
            self._problem(draft.declaration, f'the site does not select the state "{name}"', at, hint=hint)
        return [other.id for other in self.drafts.values() if other.state.name == name and other is not draft]

    def _is_left_out(self, reference: str) -> bool:
        if reference in self.left_out or any(fnmatch.fnmatchcase(id, reference) for id in self.left_out):
            return True
        for name in self.dynamic:
            pattern = ".*".join(re.escape(part) for part in re.split(r"\{\{.*?\}\}", name))
            if re.fullmatch(pattern, reference):
                return True
        return False


_MOUNT_ON_DIRECTORY = {"gocryptfs", "directory"}


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _sorted(problems: list[Problem]) -> list[Problem]:
    files = {file: i for i, file in enumerate(dict.fromkeys(problem.file for problem in problems))}
    return sorted(problems, key=lambda problem: (files[problem.file], problem.line))


def compile_site(path: Path, shipped: Path | None) -> tuple[Desired, Reader, dict[str, Any]]:
    """Read a site from its documents.

    Gives the desired state, the reader that knows every file it was made from, and the facts that were used.
    Raises DeclarationError with everything that is wrong.
    """
    site = Loader(path, shipped).load()
    facts = Facts()
    renderer = Renderer(site.reader)
    compiler = _Compiler(site, renderer, Values(site, renderer, facts), site.reader.problems)
    entries = compiler.compile()
    states = {state.name: state.summary for state in site.states if state.name != SITE}
    users = {}
    for entry in entries:
        names = secrets_in([getattr(entry.resource, name) for name in resource_fields(entry.resource)])
        if names:
            users[entry.id] = sorted(names)
    sources = {name: site.secrets[name] for name in sorted({name for names in users.values() for name in names})}
    return Desired(path, entries, sources, states, users), site.reader, facts.used
