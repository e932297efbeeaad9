"""Declarations that were removed: what they made is left alone and said once, or undone where that was declared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.engine.step import Step, diff_of
from agent.errors import ResourceError
from agent.graph import Entry
from agent.host import Host
from agent.journal import Journal
from agent.resource import AttributeChange, Change, State, Undoable
from agent.resources import kind_class


class Removed:
    """A resource that is no longer declared, as the journal remembers it."""

    def __init__(self, row: Mapping[str, Any], journal: Journal) -> None:
        self.id: str = row["id"]
        self.told = bool(row["told"])
        fields = json.loads(row["declared"])
        self.entry = Entry(kind_class(row["kind"])(**fields), "", row["source"], [])
        self.undoes = row["on_removal"] == "undo" and row["original"] is not None
        self.wants_undo = row["on_removal"] == "undo"
        self._original = row["original"]
        self._journal = journal

    def original(self) -> State | None:
        """The state before the agent's first change."""
        return self._journal.state_before(self._original)

    def plan(self, host: Host) -> Step | None:
        """The step that undoes it; None where nothing is left to undo."""
        step = Step(self.entry, cause="intent")
        resource = self.entry.resource
        try:
            actual, original = resource.read(host), self.original()
        except (ResourceError, OSError) as error:
            step.outcome, step.error = "failed", f"it cannot be undone: {error}"
            return step
        if not isinstance(resource, Undoable) or actual == original or (actual is None and original is None):
            return None
        if original is None:
            attributes = tuple(AttributeChange(name, value, None) for name, value in (actual or {}).items())
        else:
            attributes = tuple(
                AttributeChange(name, (actual or {}).get(name), value)
                for name, value in original.items()
                if (actual or {}).get(name) != value
            )
        step.change = Change(actual, original, attributes)
        step.outcome = "would-remove" if original is None else "would-change"
        step.diff = diff_of(resource, step.change)
        step.note = "no longer declared: undone"
        return step


def removed(journal: Journal, site: Path, declared: set[str]) -> Iterator[Removed]:
    """The resources of this site that are no longer declared; those of kinds that are gone too are passed over."""
    for row in journal.removed(site, declared):
        try:
            yield Removed(row, journal)
        except (KeyError, TypeError):
            journal.told(row["id"])
