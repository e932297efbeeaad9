"""The plan: every resource read once and compared; nothing is changed.

`agent apply --check` shows it and `agent apply` carries it out: both come through the same `Planner`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from typing import Any

from agent.engine.ahead import imported_ahead, side_by_side
from agent.engine.step import (
    BLOCKED,
    FAILED,
    IN_DESIRED_STATE,
    PLANNED,
    SKIPPED,
    UNKNOWN,
    Step,
    as_resource_error,
    diff_of,
    planned_outcome,
)
from agent.errors import AgentError, JournalError, KnownAfterApply, NotPermitted, ResourceError, Unanswered
from agent.graph import Entry
from agent.host import Host
from agent.journal import veiled
from agent.resource import Change, Manual, Prefetching, Refreshable, State, differences

INTERRUPTED = "interrupted before it was done"


class Past:
    """What the journal knows that a plan needs; this one knows nothing, as before the first run."""

    def was_set_to(self, _id: str, _state: State | None) -> bool | None:
        """Whether this is the state that the agent last set a resource to; None where it never did."""
        return None

    def last_set(self, _id: str) -> Mapping[str, Any] | None:
        """That state, as `Journal.comparable` gives it."""
        return None

    def owed(self) -> Mapping[str, Sequence[str]]:
        """Refreshes left over from earlier runs: causes by listener."""
        return {}


class Planner:
    """Reads resources and says what each comes to. `hide` takes secrets out of what is shown.

    It is `unforeseeable` what will be refused once something is planned that may make room for anything. With
    `nothing_follows`, for a plan that is not carried out, it also says what is not offered now.
    """

    def __init__(self, host: Host, past: Past | Any, hide: Callable[[str], str] = lambda text: text) -> None:
        self._host = host
        self._past = past
        self._owed = past.owed()
        self.hide = hide
        self.bugs: list[Exception] = []
        self.unforeseeable = False
        self.nothing_follows = False
        self.steps: dict[str, Step] = {}

    def plan(
        self,
        entries: Sequence[Entry],
        begins: Callable[[Step], None] = lambda _step: None,
        stopped: Callable[[], bool] = lambda: False,
        failed: Set[str] = frozenset(),
    ) -> list[Step]:
        """A step for each entry, in their order; what needs something of `failed` is not looked at."""
        failed = set(failed)
        with imported_ahead(dict.fromkeys(name for entry in entries for name in entry.resource.reads_with)):
            problems = self._prefetch(entries)
            for entry in entries:
                step = Step(entry)
                self.steps[entry.id] = step
                if stopped():
                    step.outcome, step.note = SKIPPED, INTERRUPTED
                    continue
                if block(step, failed):
                    failed.add(step.id)
                    continue
                begins(step)
                self.look(step, problems.get(entry.resource.kind))
        return list(self.steps.values())

    def _prefetch(self, entries: Sequence[Entry]) -> dict[str, ResourceError]:
        by_class = defaultdict(list)
        for entry in entries:
            if isinstance(entry.resource, Prefetching):
                by_class[type(entry.resource)].append(entry.resource)
        problems: dict[str, ResourceError] = {}

        def fetch(cls: Any) -> None:
            try:
                cls.prefetch(self._host, by_class[cls])
            except Exception as error:  # noqa: BLE001 - a bug in a kind, too, is its resource's
                problems[cls.kind] = self.told(error)

        side_by_side([partial(fetch, cls) for cls in by_class if cls.waits])
        for cls in by_class:
            if not cls.waits:
                fetch(cls)
        return problems

    def look(self, step: Step, problem: ResourceError | None = None) -> None:
        """Read one resource now and fill its step in."""
        started, known = time.perf_counter(), len(self._host.notes)
        step.outcome, step.cause, step.error = IN_DESIRED_STATE, None, None
        step.change, step.diff, step.note, step.preview = None, None, "", []
        step.refresh, step.refresh_causes, step.outside = "", [], False
        try:
            if problem is not None:
                raise problem
            change = self.difference(step)
            if change is not None and self._first_pending(step) is None:
                if not self.unforeseeable:
                    step.entry.resource.foresee(self._host, change)
                if self.nothing_follows:
                    planned = (each.entry.resource for each in self.steps.values() if each.changes_something)
                    step.entry.resource.check_offered(self._host, planned)
        except Exception as error:  # noqa: BLE001 - a bug in a kind, too, is its resource's
            self._not_known(step, self.told(error))
        else:
            if change is not None:
                self._would_change(step, change)
            self._would_refresh(step)
        self.unforeseeable |= step.changes_something and step.entry.resource.reaches_far
        step.notes += self._host.notes[known:]
        step.duration += time.perf_counter() - started

    def difference(self, step: Step) -> Change | None:
        """What leads a resource from the state it is in now to the desired one, with secrets hidden."""
        resource = step.entry.resource
        self._check_not_hidden(step)
        desired = resource.desired(self._host)
        change = differences(resource.read(self._host), desired)
        return None if change is None else veiled(change, self._past.last_set(step.id))

    def _check_not_hidden(self, step: Step) -> None:
        """Raise for what lies on a mount that is still to be made, or that failed: what is seen there now is not it.

        To look at a mount whose daemon hangs would hang, and nothing could end that.
        """
        for id in step.entry.requires:
            other = self.steps.get(id)
            failed = other is not None and other.outcome == FAILED
            if other is None or (not failed and (other.error or not other.changes_something)):
                continue
            folder = other.entry.resource.hides(None if failed else other.change)
            if folder and any(f"{path}/".startswith(f"{folder}/") for path in step.entry.resource.paths()):
                if failed:
                    raise ResourceError(f"not looked at, because {other.id} failed")
                raise KnownAfterApply(f"{other.id} {other.entry.resource.pending}")

    def told(self, error: Exception) -> ResourceError:
        """What went wrong, as an error of the one resource that it went wrong with."""
        if isinstance(error, JournalError):
            raise error
        if not isinstance(error, AgentError | OSError):
            self.bugs.append(error)
        return as_resource_error(error)

    def _not_known(self, step: Step, error: ResourceError) -> None:
        pending = self._first_pending(step)
        if isinstance(error, KnownAfterApply):
            step.outcome, step.note = UNKNOWN, f"known after apply: {error.summary}"
        elif isinstance(error, NotPermitted):
            step.outcome, step.note = UNKNOWN, f"not readable: {error.summary}"
            step.error = self.hide(str(error))
        elif isinstance(error, Unanswered):
            step.outcome, step.note, step.outside = UNKNOWN, self.hide(error.summary), True
        elif pending is not None:
            step.outcome = UNKNOWN
            step.note = f"known after apply: {pending.id} {pending.entry.resource.pending}"
        else:
            step.outcome, step.error = FAILED, self.hide(str(error))

    def _first_pending(self, step: Step) -> Step | None:
        """Something that it needs, directly or not, that will be changed before it; a package where there is one."""
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
        step.cause = "drift" if self._past.was_set_to(step.id, change.desired) else "intent"
        diff = diff_of(resource, change)
        step.diff = None if diff is None else self.hide(diff)
        try:
            step.note = self.hide(resource.summary(self._host, change))
            step.preview = [self.hide(text) for text in resource.preview(self._host, change)]
        except Exception:  # noqa: BLE001 - what is wrong will be told when it is carried out
            step.note = ""
        if isinstance(resource, Manual) and (to_do := resource.by_hand(change)):
            step.outcome, step.cause, step.outside = SKIPPED, None, True
            step.note = f"to do by hand: {to_do}"

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


def block(step: Step, failed: set[str]) -> bool:
    """Whether a step needs something that failed; if so it becomes blocked."""
    step.blocked_by = [id for id in step.entry.requires if id in failed] if failed else []
    if step.blocked_by:
        step.outcome, step.cause, step.change, step.diff, step.preview = BLOCKED, None, None, None, []
        step.error = f"not done, because {', '.join(step.blocked_by)} failed"
    return bool(step.blocked_by)


def block_all(steps: Sequence[Step]) -> None:
    """Say of a plan what an apply would come to: what needs something that cannot be read is not done."""
    failed: set[str] = set()
    for step in steps:
        if block(step, failed) or step.outcome == FAILED:
            failed.add(step.id)
