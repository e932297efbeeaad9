"""Values that nothing reads: mostly names with a typing mistake in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.declaration.document import nearest
from agent.declaration.parameters import RESERVED
from agent.declaration.render import Renderer
from agent.declaration.site import SITE, Site, StateSource
from agent.errors import Problem


def unread_values(site: Site, renderer: Renderer, templates: set[Path]) -> Iterator[Problem]:
    """A problem for each value that neither a parameter nor something in the site's own files reads.

    `templates` are those that the site's own resources use.
    """
    states = {state.name: state for state in site.states if state.name != SITE}
    parameters = {name for state in site.states for name in state.parameters}
    used = _used_by_site(site, renderer, templates)
    for name, value in site.values.items():
        if name in states and isinstance(value, dict):
            yield from _unread_in_state(site, states[name], value)
        elif name not in parameters and name not in used and name not in RESERVED:
            hint = _hint(name, value, site, parameters | set(states))
            yield site.problem("no state reads this value", (name,), hint=hint)


def _hint(name: str, value: Any, site: Site, readable: set[str]) -> str:
    if name in {state.name for state in site.states}:
        return f"{name} is a state: the values of its parameters go into [values.{name}]"
    if isinstance(value, dict) and name in set(site.available()):
        return f'the site does not select the state "{name}": add it to states in [site]'
    return nearest(name, readable)


def _unread_in_state(site: Site, state: StateSource, table: Mapping[str, Any]) -> Iterator[Problem]:
    for name in table:
        if name not in state.parameters:
            hint = nearest(name, state.parameters) or f"see `agent docs {state.name}`"
            yield site.problem(f"state {state.name} has no parameter of this name", (state.name, name), hint=hint)


def _used_by_site(site: Site, renderer: Renderer, templates: set[Path]) -> set[str]:
    own = next(state for state in site.states if state.name == SITE)
    texts: list[Any] = [site.values, *(secret.table for secret in site.secrets.values() if secret.owner == SITE)]
    texts += [parameter.default for parameter in own.parameters.values()]
    used: set[str] = set()
    for declaration in own.declarations:
        texts += [declaration.table, declaration.name]
        template = declaration.table.get("template")
        if isinstance(template, str) and "{{" not in template:
            templates = templates | {declaration.document.path.parent / template}
    for text in _strings(texts):
        used |= renderer.names_in(text)
    for path in templates:
        used |= renderer.names_in_template(path)
    return used


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
