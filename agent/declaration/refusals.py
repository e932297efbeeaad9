"""Values that are of the right type and wrong all the same, by the rules of the parameters that take them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from agent.declaration.lines import KeyPath
from agent.declaration.names import Unavailable
from agent.declaration.parameters import toml_type
from agent.declaration.render import Renderer
from agent.declaration.secretvalue import RenderError, SecretValue
from agent.declaration.site import Site
from agent.declaration.values import Values
from agent.errors import Problem


def refused_values(site: Site, renderer: Renderer, values: Values) -> Iterator[Problem]:
    """A problem for each value that a rule refuses, where the value is written; of a list of tables, at the table."""
    for state in site.states:
        for parameter in state.parameters.values():
            for i, rule in enumerate(parameter.refuse):
                try:
                    for message, item in _found(rule, renderer, values.names(state)):
                        at = _place(item, values.value(state.name, parameter.name))
                        yield values.problem(state.name, parameter.name, message, at)
                except RenderError as error:
                    path = (*parameter.path, "refuse", i)
                    yield parameter.document.problem(error.message, path, hint=error.hint)
                except Unavailable:
                    pass  # a value that is wrong itself was reported


def _found(rule: Mapping[str, Any], renderer: Renderer, names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a rule has to say, and the item that it says it of."""
    items: Any = renderer.value(rule["for_each"], names) if "for_each" in rule else [None]
    if not isinstance(items, list):
        raise RenderError(f"for_each must give a list, not {toml_type(items)}")
    for item in items:
        seen = {**names, "item": item} if "for_each" in rule else names
        refused = renderer.value(rule["when"], seen)
        if isinstance(refused, str | SecretValue):
            raise RenderError(f"when must give true or false, not {toml_type(refused)}")
        if refused:
            yield str(renderer.value(rule["message"], seen)), item


def _place(item: Any, given: Any) -> KeyPath:
    """Where an item, or the table that it was taken from, stands in the list that a parameter was given."""
    table = item[0] if isinstance(item, list) and item else item
    for i, each in enumerate(given if isinstance(given, list) else []):
        with suppress(RenderError):  # different secrets are not compared: these are not the same table
            if isinstance(each, dict) and each == table:
                return (i,)
    return ()
