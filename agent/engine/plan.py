"""The plan: every resource read once and compared; nothing is changed.

`agent apply --check` shows it and `agent apply` carries it out: both come through the same `Reader`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from agent.engine.step import FAILED, IN_DESIRED_STATE, PLANNED, UNKNOWN, Step, diff_of, planned_outcome
from agent.errors import AgentError, KnownAfterApply, NotPermitted, ResourceError
from agent.graph import Entry
from agent.host import Host
from agent.resource import Change, Prefetching, Refreshable, State, differences

WasSetTo = Callable[[str, State | None], bool | None]
"""Whether a state is what the agent last set a resource to; None where it never did."""


class Planner:
    """Reads resources and says what each comes to. `owed` are refreshes left over from earlier runs."""

    def __init__(self, host: Host, was_set_to: WasSetTo, owed: Mapping[str, Sequence[str]]) -> None:
        self._host = host
        self._was_set_to = was_set_to
        self._owed = owed
        self.steps: dict[str, Step] = {}

    def plan(self, entries: Sequence[Entry], on_step: Callable[[Step], None] | None = None) -> list[Step]:
        """A step for each entry, in their order."""
        problems = self._prefetch(entries)
        for entry in entries:
            step = Step(entry)
            self.steps[entry.id] = step
            self.look(step, problems.get(entry.resource.kind))
            if on_step is not None:
                on_step(step)
        return list(self.steps.values())

    def _prefetch(self, entries: Sequence[Entry]) -> dict[str, ResourceError]:
        by_class = defaultdict(list)
        for entry in entries:
            if isinstance(entry.resource, Prefetching):
                by_class[type(entry.resource)].append(entry.resource)
        problems = {}
        for cls, resources in by_class.items():
            try:
                cls.prefetch(self._host, resources)
            except ResourceError as error:
                problems[cls.kind] = error
        return problems

    def look(self, step: Step, problem: ResourceError | None = None) -> None:
        """Read one resource now and fill its step in."""
        started = time.perf_counter()
        step.outcome, step.error, step.change, step.note = IN_DESIRED_STATE, None, None, ""
        try:
            if problem is not None:
                raise problem
            change = self._difference(step)
        except ResourceError as error:
            self._not_known(step, error)
        else:
            if change is not None:
                self._would_change(step, change)
            self._would_refresh(step)
        step.duration += time.perf_counter() - started

    def _difference(self, step: Step) -> Change | None:
        resource = step.entry.resource
        desired = resource.desired(self._host)
        return differences(resource.read(self._host), desired)

    def _not_known(self, step: Step, error: ResourceError) -> None:
        pending = self._first_pending(step)
        step.error = None
        if isinstance(error, KnownAfterApply):
            step.outcome, step.note = UNKNOWN, f"known after apply: {error.summary}"
        elif isinstance(error, NotPermitted):
            step.outcome, step.note = UNKNOWN, f"not readable: {error.summary}"
            step.error = str(error)
        elif pending is not None:
            step.outcome = UNKNOWN
            step.note = f"known after apply: {pending.id} {pending.entry.resource.pending}"
        else:
            step.outcome, step.error = FAILED, str(error)

    def _first_pending(self, step: Step) -> Step | None:
        """Something that it needs, directly or not, and that will be changed before it; a package where there is one."""
        found: list[Step] = []
        seen: set[str] = set()
        stack = list(step.entry.requires)
        while stack:
            id = stack.pop(0)
            other = self.steps.get(id)
            if id in seen or other is None:
                continue
            seen.add(id)
            if other.outcome in PLANNED:
                found.append(other)
            if other.outcome == UNKNOWN or other.outcome in PLANNED:
                stack.extend(other.entry.requires)
        return min(found, key=lambda other: other.entry.resource.kind != "apt", default=None)

    def _would_change(self, step: Step, change: Change) -> None:
        resource = step.entry.resource
        step.change = change
        step.outcome = planned_outcome(change)
        step.diff = diff_of(resource, change)
        try:
            step.note = resource.summary(self._host, change)
            step.preview = list(resource.preview(self._host, change))
            step.cause = "intent" if self._was_set_to(step.id, change.desired) is not True else "drift"
        except AgentError:
            step.cause = "intent"

    def _would_refresh(self, step: Step) -> None:
        resource = step.entry.resource
        if not isinstance(resource, Refreshable):
            return
        causes = [ref for ref in resource.listens_to() if ref in self.steps and self.steps[ref].outcome in PLANNED]
        causes += [cause for cause in self._owed.get(step.id, ()) if cause not in causes]
        if causes and not (step.change and resource.fulfils_refresh(step.change)):
            step.refresh_causes = causes
            step.refresh = resource.refresh_action(causes)
            if step.outcome == IN_DESIRED_STATE:
                step.outcome, step.cause = "would-refresh", "refresh"
