"""From a site's documents to its desired state: everything filled in, validated, resolved and put in order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from agent.declaration.claims import check_claims
from agent.declaration.desired import Desired, resource_fields, secrets_in
from agent.declaration.document import Reader, nearest
from agent.declaration.draft import Drafter
from agent.declaration.loader import Loader
from agent.declaration.names import Unavailable
from agent.declaration.places import check_places
from agent.declaration.references import References
from agent.declaration.refusals import refused_values
from agent.declaration.render import Renderer
from agent.declaration.secretvalue import RenderError
from agent.declaration.site import SITE, SecretDeclaration, Site
from agent.declaration.unread import unread_values
from agent.declaration.values import Values
from agent.errors import DeclarationError, Problem
from agent.facts import Facts
from agent.graph import Entry, Graph
from agent.host.secrets import SecretSource

_SECRET_KEYS = ("file", "generate", "credential")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LONGEST = 400
_SECRET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")


def compile_site(path: Path, shipped: Path | None) -> tuple[Desired, Reader, dict[str, Any]]:
    """Read a site from its documents.

    Gives the desired state, the reader that knows every file it was made from, and the facts that were used.
    Raises DeclarationError with everything that is wrong, and with what was read to find that.
    """
    site = Loader(path, shipped).load()
    try:
        return _compiled(path, site)
    except DeclarationError as error:
        error.files, error.listings = list(site.reader.contents), list(site.reader.listings)
        raise


def _compiled(path: Path, site: Site) -> tuple[Desired, Reader, dict[str, Any]]:
    facts = Facts()
    renderer = Renderer(site.reader)
    values = Values(site, renderer, facts)
    values.check_all()
    site.reader.problems += refused_values(site, renderer, values)
    sources = _secret_sources(site, renderer, values)
    entries = _entries(site, renderer, values)
    states = {state.name: state.summary for state in site.states if state.name != SITE}
    users = {}
    for entry in entries:
        names = secrets_in([getattr(entry.resource, name) for name in resource_fields(entry.resource)])
        if names:
            users[entry.id] = sorted(names)
    used = sorted({name for names in users.values() for name in names})
    return Desired(path, entries, {name: sources[name] for name in used}, states, users), site.reader, facts.used


def _entries(site: Site, renderer: Renderer, values: Values) -> list[Entry]:
    """All entries in order; raises DeclarationError with all problems."""
    problems = site.reader.problems
    drafter = Drafter(site, renderer)
    for state in site.states:
        names = values.names(state)
        for declaration in state.declarations:
            drafter.add(declaration, state, names)
    drafts = drafter.drafts
    problems += unread_values(site, renderer, drafts.templates_of_site)
    problems += check_places(drafts.by_id)
    problems += check_claims(drafts.by_id)
    references = References(site, drafts)
    graph = Graph([references.entry(draft) for draft in drafts.by_id.values()])
    for cycle in graph.cycles():
        declaration = drafts.by_id[cycle[0]].declaration
        message = f"requirements in a circle: {' → '.join(cycle)}"
        problems.append(declaration.document.problem(message, declaration.path))
    if problems:
        raise DeclarationError(_in_order(problems))
    graph.imply()
    ordered = graph.in_order()
    for entry in ordered:
        object.__setattr__(entry.resource, "requires", entry.requires)
    return ordered


def _secret_sources(site: Site, renderer: Renderer, values: Values) -> dict[str, SecretSource]:
    sources = {}
    for name, declared in site.secrets.items():
        problems = [
            declared.document.problem("unknown key", (*declared.path, key), hint=nearest(key, _SECRET_KEYS))
            for key in declared.table
            if key not in _SECRET_KEYS
        ]
        source = _source(site, declared, renderer, values)
        if isinstance(source, str):
            problems += [declared.document.problem(source, declared.path)] * (not problems and bool(source))
        else:
            sources[name] = source
        site.reader.problems += problems
    return sources


def _source(site: Site, declared: SecretDeclaration, renderer: Renderer, values: Values) -> SecretSource | str:
    """Where a secret comes from, or a sentence about what is wrong, or nothing where that was reported."""
    if not _SECRET_NAME.fullmatch(declared.name):
        return 'a secret\'s name is made of letters, digits, "_", "-", "." and "@"'
    table = dict(declared.table)
    owner = next(state for state in site.states if state.name == declared.owner)
    for key in ("file", "credential"):
        if isinstance(table.get(key), str):
            try:
                table[key] = renderer.string(table[key], values.names(owner))
            except RenderError as error:
                return error.message
            except Unavailable:
                return ""
            if table[key] == "" or "\0" in str(table[key]):
                return f"{key} is empty" if table[key] == "" else f"{key} cannot hold a NUL"
    folder = declared.document.path.parent if "file" in table else site.path.parent
    return SecretSource.declared(declared.name, table, folder)


def _in_order(problems: list[Problem]) -> list[Problem]:
    """Each once, by file and line; files in the order in which they were read."""
    files = {file: i for i, file in enumerate(dict.fromkeys(problem.file for problem in problems))}
    once: dict[tuple[str | int, ...], Problem] = {}
    for problem in problems:
        problem.message, problem.hint = _one_line(problem.message), _one_line(problem.hint)
        once.setdefault((problem.file, problem.line, problem.key, problem.message), problem)
    return sorted(once.values(), key=lambda problem: (files[problem.file], problem.line))


def _one_line(text: str) -> str:
    """A message as one line of a bearable length: it may quote any value."""
    text = _CONTROL.sub(lambda found: "\\n" if found[0] == "\n" else f"\\x{ord(found[0]):02x}", text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
