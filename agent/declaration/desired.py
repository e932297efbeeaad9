"""The compiled desired state: what a site comes to once everything is filled in and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from agent.graph import Entry
from agent.host.secrets import Secrets, SecretSource
from agent.secret import SecretText


@dataclass
class Desired:
    """All resources of a site in the order in which they are applied, and the secrets that they use."""

    site: Path
    entries: Sequence[Entry]
    sources: Mapping[str, SecretSource]
    states: Mapping[str, str]
    """Names of the selected states, with their summaries."""
    users: Mapping[str, Sequence[str]]
    """Names of the secrets that a resource uses, by its id; only of those that use any."""
    fingerprint: str = ""
    """A digest of everything that it was made from."""
    secrets: Secrets = field(init=False)

    def __post_init__(self) -> None:
        self.secrets = Secrets(self.sources)
        for entry in self.entries:
            if entry.id in self.users:
                _bind_resource(entry.resource, self.secrets.value)


def _bind_resource(resource: Any, resolve: Callable[[str], str]) -> None:
    for name in resource_fields(resource):
        value = getattr(resource, name)
        object.__setattr__(resource, name, _bound(value, resolve))


def _bound(value: Any, resolve: Callable[[str], str]) -> Any:
    if isinstance(value, SecretText):
        return value.bound(resolve)
    if isinstance(value, list):
        return [_bound(item, resolve) for item in value]
    if isinstance(value, dict):
        return {key: _bound(item, resolve) for key, item in value.items()}
    return value


def resource_fields(resource: Any) -> Sequence[str]:
    """The names of a resource's fields."""
    return tuple(field.name for field in fields(resource))


def secrets_in(value: Any) -> set[str]:
    """The names of the secrets that stand in a field's value."""
    if isinstance(value, SecretText):
        return set(value.names)
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return set()
    return {name for item in value for name in secrets_in(item)}
