"""The compiled desired state as text (close to the TOML that would declare it) and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent.declaration.desired import Desired, resource_fields
from agent.graph import Entry
from agent.report.plain import visible
from agent.report.text import Style
from agent.secret import REDACTED, Secret, SecretText

_ELSEWHERE = ("name", "requires", "rendered", "declared")
_SENSITIVE = ("content", "run", "unless", "only_if", "env")
"""What is not shown of a resource that is declared sensitive."""


def fields(entry: Entry) -> dict[str, Any]:
    """The fields of a resource that differ from their defaults, with secrets left out."""
    resource = entry.resource
    sensitive = getattr(resource, "sensitive", False)
    blank = {each.name: each for each in dataclasses.fields(resource)}
    found: dict[str, Any] = {}
    for name in resource_fields(resource):
        value = getattr(resource, name)
        make = blank[name].default_factory
        default = blank[name].default if make is dataclasses.MISSING else make()
        if name not in _ELSEWHERE and value != default and value not in ([], {}, None):
            found[name] = _plain(value, hidden=sensitive and name in _SENSITIVE)
    for column in getattr(resource, "sensitive_columns", ()):
        found["rows"] = [row | {column: REDACTED} if column in row else row for row in found.get("rows", ())]
    rendered = getattr(resource, "rendered", None)
    if rendered is not None:
        found["content"] = _plain(rendered, hidden=sensitive)
    return found


def _plain(value: Any, *, hidden: bool = False) -> Any:
    if hidden or isinstance(value, Secret):
        return REDACTED
    if isinstance(value, SecretText):
        return "".join(REDACTED if i % 2 else part for i, part in enumerate(value.parts))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def lines(entry: Entry, style: Style) -> Iterator[str]:
    """One resource as text."""
    yield style.paint("1", f"[{entry.resource.kind}.{json.dumps(entry.resource.name, ensure_ascii=False)}]") + (
        f"  # {entry.source}"
    )
    for name, value in fields(entry).items():
        yield f"{name} = {_toml(value)}"
    named = [id for id in entry.requires if id not in entry.implied]
    if named:
        yield f"requires = {_toml(named)}"
    if entry.implied:
        yield style.paint("2", f"# implied: {', '.join(entry.implied)}")
    yield ""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and "\n" in value and '"""' not in value and "\\" not in value:
        return f'"""\n{visible(value)}"""'
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def document(site: str, desired: Desired, entries: Sequence[Entry]) -> dict[str, Any]:
    """The whole as JSON."""
    return {
        "version": 1,
        "mode": "show",
        "site": site,
        "states": dict(desired.states),
        "resources": [
            {
                "id": entry.id,
                "kind": entry.resource.kind,
                "name": entry.resource.name,
                "state": entry.state,
                "source": entry.source,
                "fields": fields(entry),
                "requires": [id for id in entry.requires if id not in entry.implied],
                "implied_requires": list(entry.implied),
            }
            for entry in entries
        ],
    }
