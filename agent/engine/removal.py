"""Declarations that were removed: what they made is left alone and said once, or undone where that was declared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.engine.context import Context
from agent.engine.step import DONE, FAILED, Step, as_resource_error
from agent.engine.undo import plan_undo, undo
from agent.graph import Entry
from agent.host import Host
from agent.journal import Journal
from agent.resource import State, Undoable
from agent.resources import kind_class

_WAY_OUT = 'to leave it as it is, declare it once more with on_removal = "keep", apply that, and remove it then'


class Removed:
    """A resource that is no longer declared, as the journal remembers it."""

    def __init__(self, row: Mapping[str, Any], journal: Journal) -> None:
        self.id: str = row["id"]
        self.source: str = row["source"]
        self._row = row
        self._journal = journal
        self.entry = self._entry() if row["on_removal"] == "undo" else None

    def _entry(self) -> Entry | None:
        """The resource as it was declared; None where it cannot be undone, or its kind is no more."""
        try:
            cls = kind_class(self._row["kind"])
            if self._row["original"] is None or not issubclass(cls, Undoable):
                return None
            return Entry(cls(**json.loads(self._row["declared"])), "", self.source, [])
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def note(self) -> str | None:
        """What is said of it once, where it is not undone."""
        never_set = self._row["last_set"] is None
        if self.entry is not None or self._row["told"] or never_set:
            return None
        left = "and was left alone"
        if self._row["on_removal"] == "undo":
            left += ": " + ("it was there before" if self._row["original"] is None else "it cannot be undone")
        return f"{self.id} is no longer declared {left} (it was at {self.source})"

    def paths(self) -> Iterable[str]:
        """The paths that it made."""
        return self.entry.resource.paths() if self.entry is not None else ()

    def original(self) -> State | None:
        """The state before the agent's first change. Raises OSError where its content is gone."""
        return self._journal.state_before(self._row["original"])

    def plan(self, host: Host) -> Step | None:
        """The step that undoes it; None where nothing is left to undo."""
        assert self.entry is not None
        step = Step(self.entry, cause="intent", note="no longer declared: undone")
        try:
            actual, original = self.entry.resource.read(host), self.original()
            if actual == original:
                return None
            assert isinstance(self.entry.resource, Undoable)
            if left := self.entry.resource.cannot_undo(host, original):
                step.note += f", but {left}"
        except Exception as error:  # noqa: BLE001 - a bug in a kind, too, is its resource's
            told = f"it cannot be undone: {as_resource_error(error)}"
            step.outcome, step.error = FAILED, told if "\nhint: " in told else f"{told}\nhint: {_WAY_OUT}"
            return step
        plan_undo(step, actual, original, json.loads(self._row["last_set"]) if self._row["last_set"] else None)
        return step


class Removals:
    """All that a site no longer declares, the last made first."""

    def __init__(self, journal: Journal, site: Path, entries: Sequence[Entry]) -> None:
        declared = {entry.id for entry in entries}
        self._all = [Removed(row, journal) for row in journal.removed(site, declared)][::-1]
        self._journal = journal
        self._in_the_way = self._conflicts(entries) if any(each.entry for each in self._all) else set()

    def _conflicts(self, entries: Sequence[Entry]) -> set[str]:
        taken = {path for entry in entries for path in entry.resource.paths()}
        return {each.id for each in self._all if not taken.isdisjoint(each.paths())}

    @property
    def make_room(self) -> bool:
        """Whether something stands where another resource is declared now, and is undone first."""
        return any(each.entry is not None and each.id in self._in_the_way for each in self._all)

    def plan(self, host: Host) -> Iterator[Step]:
        """The steps that undo what is to be undone."""
        for each in self._all:
            if each.entry is not None and (step := each.plan(host)) is not None:
                yield step

    def notes(self) -> list[str]:
        """What is to be said of those that are left alone."""
        return [note for each in self._all if (note := each.note) is not None]

    def tell(self) -> list[str]:
        """The same, for the last time."""
        notes = self.notes()
        for each in self._all:
            if each.note is not None:
                self._journal.told(each.id)
        return notes

    def undo_in_the_way(self, context: Context) -> list[Step]:
        """Undo first what stands where another resource is declared now; gives the steps."""
        return self._undo_all(context, [each for each in self._all if each.id in self._in_the_way])

    def undo_rest(self, context: Context) -> list[Step]:
        """Undo all else, after what is declared was brought about; gives the steps."""
        return self._undo_all(context, [each for each in self._all if each.id not in self._in_the_way])

    def _undo_all(self, context: Context, removed: Sequence[Removed]) -> list[Step]:
        steps = []
        context.host.leaving = [each.entry.resource for each in self._all if each.entry is not None]
        for each in removed:
            if each.entry is None or context.stopped():
                continue
            step = each.plan(context.host)
            if step is not None:
                steps.append(step)
                if step.change is not None:
                    undo(context, step, step.change, each.original())
                context.watcher.ended(step)
            if step is None or step.outcome in DONE:
                self._journal.forget(each.id)
        return steps
