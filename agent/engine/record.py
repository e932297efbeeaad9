"""What each resource is now set to is remembered, so that a later difference is told to be drift or intent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

from agent.engine.step import IN_DESIRED_STATE, Step
from agent.errors import ResourceError
from agent.host import Host
from agent.journal import Journal, Memory
from agent.resource import Checking, Resource
from agent.secret import Secret, SecretText

_LONGEST = 1024
_NOT_SENSITIVE = ("name", "ensure", "mode", "owner", "group", "comment", "sensitive", "requires", "on_removal")


class Recorder:
    """Writes to the journal what the resources of a site are set to."""

    def __init__(self, journal: Journal, host: Host, site: Path) -> None:
        self._journal = journal
        self._host = host
        self._site = site

    def done(self, step: Step) -> None:
        """A step was carried out."""
        with suppress(ResourceError, OSError):
            self._journal.record(step.id, self._memory(step))

    def found(self, steps: Iterable[Step]) -> None:
        """These steps came to their end; remembered is what was found in its desired state."""
        known = self._journal.memories()
        for step in steps:
            if step.outcome == IN_DESIRED_STATE and step.entry.state and not isinstance(step.entry.resource, Checking):
                with suppress(ResourceError, OSError):
                    memory = self._memory(step)
                    if known.get(step.id) != memory:
                        self._journal.record(step.id, memory)

    def _memory(self, step: Step) -> Memory:
        return replace(self.declared(step), last_set=self._journal.comparable(step.entry.resource.desired(self._host)))

    def declared(self, step: Step) -> Memory:
        """What is remembered of a resource before it is set to anything."""
        resource = step.entry.resource
        site, source = str(self._site), step.entry.source
        return Memory(site, source, resource.kind, declared_text(resource), resource.on_removal, None)


def declared_text(resource: Resource) -> str:
    """How a resource is declared, as it is remembered."""
    return json.dumps(_declared(resource), sort_keys=True, default=str)


def _declared(resource: Resource) -> dict[str, Any]:
    """What has to be known of a resource to undo it one day: no secrets, and no contents."""
    found = {}
    sensitive = getattr(resource, "sensitive", False)
    for field in fields(resource):
        value = getattr(resource, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        long = isinstance(value, str) and len(value) > _LONGEST
        if value == default or long or _holds_secret(value) or (sensitive and field.name not in _NOT_SENSITIVE):
            continue
        found[field.name] = value
    return found


def _holds_secret(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_secret(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_secret(item) for item in value)
    return isinstance(value, Secret | SecretText)
