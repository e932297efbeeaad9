"""What listens to what a rollback puts back: refreshed where it runs, as after an apply."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from agent.engine.context import Context
from agent.engine.refresh import refresh
from agent.engine.step import IN_DESIRED_STATE, PLANNED, SKIPPED, Step
from agent.errors import ResourceError
from agent.graph import Entry
from agent.resource import Refreshable


class Followers:
    """The listeners of the site's resources, with a step (`steps`) for each that is to be refreshed.

    `scope` are the ids of all that the rollback speaks of: a refresh owed for one of those, by a run that was cut off,
    is done as well.
    """

    def __init__(
        self, context: Context, entries: Sequence[Entry], planned: Sequence[Step], scope: Collection[str]
    ) -> None:
        self._context = context
        self._scope = scope
        self._planned = {step.id: step for step in planned if step.outcome in PLANNED}
        self._goes = {id for id, step in self._planned.items() if step.outcome == "would-remove"}
        self._moot: list[str] = []
        self.steps = list(self._found(entries))

    def _found(self, entries: Sequence[Entry]) -> Iterator[Step]:
        owed = self._context.journal.owed()
        for entry in entries:
            resource = entry.resource
            if not isinstance(resource, Refreshable):
                continue
            causes = [ref for ref in resource.listens_to() if ref in self._planned]
            causes += [id for id in owed.get(entry.id, ()) if id in self._scope and id not in causes]
            if causes and self._can_be_refreshed(entry, resource):
                step = Step(entry, "would-refresh", "refresh", refresh_causes=causes)
                step.refresh = resource.refresh_action(causes)
                yield step

    def _can_be_refreshed(self, entry: Entry, resource: Refreshable) -> bool:
        """Whether it runs before and after: what starts anew needs no refresh, and what is at rest is left so."""
        own = self._planned.get(entry.id)
        if own is not None and own.change is not None:
            if own.outcome == "would-change" and not resource.fulfils_refresh(own.change):
                return True
            self._moot.append(entry.id)
            return False
        if not self._goes.isdisjoint(entry.requires):
            return False
        try:
            change = self._context.planner.difference(Step(entry))
        except (ResourceError, OSError):
            return False
        return change is None or not resource.fulfils_refresh(change)

    def refresh(self) -> None:
        """Refresh those for which something was put back."""
        for id in self._moot:
            self._context.journal.strike_off(id)
        for step in self.steps:
            resource = step.entry.resource
            if self._context.stopped():
                step.outcome, step.note = SKIPPED, "it is still owed"
            elif isinstance(resource, Refreshable):
                refresh(self._context, step, resource)
            if step.outcome != IN_DESIRED_STATE:
                self._context.watcher.ended(step)
