"""Apply: carries a plan out, reads again, refreshes what listens, and journals each step before it is taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.engine.plan import Planner
from agent.engine.schedule import batches
from agent.engine.step import (
    BLOCKED,
    DONE,
    FAILED,
    IN_DESIRED_STATE,
    PLANNED,
    SKIPPED,
    UNKNOWN,
    Step,
)
from agent.errors import AgentError, ResourceError
from agent.host import Host
from agent.journal import Intent, Journal, shown
from agent.resource import AttributeChange, Checking, Groupable, Refreshable, differences


@dataclass
class Watcher:
    """What is told while an apply goes on: a step that begins, a step that ended."""

    begins: Callable[[Step], None] = lambda _step: None
    ended: Callable[[Step], None] = lambda _step: None


class Applier:
    """One apply of a plan. `listeners` gives, by id, what is refreshed when that resource is changed."""

    def __init__(
        self,
        host: Host,
        journal: Journal,
        run: int,
        planner: Planner,
        listeners: Mapping[str, Sequence[str]],
        watcher: Watcher,
        stopped: Callable[[], bool],
    ) -> None:
        self._host = host
        self._journal = journal
        self._run = run
        self._planner = planner
        self._listeners = listeners
        self._watcher = watcher
        self._stopped = stopped
        self._steps = planner.steps
        self._touched: set[str] = set()
        self._failed: set[str] = set()

    def apply(self, steps: Sequence[Step]) -> None:
        """Carry all steps out, in the order of work; each ends with its final outcome."""
        for batch in batches(steps):
            if self._stopped():
                self._skip(batch)
                continue
            ready = [step for step in batch if not self._is_blocked(step)]
            if len(ready) > 1:
                self._together(ready)
            for step in ready:
                if step.outcome not in DONE and step.outcome != FAILED:
                    self._alone(step)
            for step in batch:
                self._settle(step)

    def _skip(self, batch: Sequence[Step]) -> None:
        for step in batch:
            if step.outcome in PLANNED or step.outcome in (UNKNOWN, FAILED):
                step.outcome, step.note = SKIPPED, "interrupted before it was done"
                self._watcher.ended(step)

    def _is_blocked(self, step: Step) -> bool:
        if not self._failed:
            return False
        step.blocked_by = [id for id in step.entry.requires if id in self._failed]
        if step.blocked_by:
            step.outcome, step.change, step.diff = BLOCKED, None, None
            step.error = f"not done, because {', '.join(step.blocked_by)} failed"
        return bool(step.blocked_by)

    def _settle(self, step: Step) -> None:
        if step.outcome in DONE:
            self._touched.add(step.id)
        elif step.outcome in (FAILED, BLOCKED):
            self._failed.add(step.id)
        if step.outcome != IN_DESIRED_STATE:
            self._watcher.ended(step)

    # One resource

    def _alone(self, step: Step) -> None:
        needs_changed = bool(self._touched) and not self._touched.isdisjoint(step.entry.requires)
        if step.outcome == IN_DESIRED_STATE and not needs_changed:
            return
        if needs_changed or step.outcome in (UNKNOWN, FAILED):
            self._planner.look(step)
        if isinstance(step.entry.resource, Checking):
            if needs_changed:
                self._check(step)
            return
        if step.change is not None:
            self._change(step)
        if step.outcome != FAILED and isinstance(step.entry.resource, Refreshable):
            self._refresh(step)

    def _change(self, step: Step) -> None:
        resource, change = step.entry.resource, step.change
        assert change is not None
        self._watcher.begins(step)
        started = time.perf_counter()
        number = self._journal.intend(self._run, [self._intent(step)])[0]
        try:
            resource.apply(self._host, change)
        except ResourceError as error:
            self._fail(step, error)
        finally:
            self._host.forget()
        self._ended(step, number, time.perf_counter() - started)

    def _intent(self, step: Step) -> Intent:
        assert step.change is not None
        return Intent(
            step.id,
            step.entry.source,
            step.outcome.removeprefix("would-"),
            step.cause or "intent",
            step.change.actual,
            step.change.attributes,
            step.diff,
            list(step.entry.resource.temporaries()),
            self._listeners.get(step.id, ()),
        )

    def _ended(self, step: Step, number: int, duration: float) -> None:
        """Read again after a change: what still differs has failed."""
        step.duration += duration
        if step.outcome != FAILED:
            try:
                self._verify(step)
            except ResourceError as error:
                self._fail(step, error)
        if step.outcome == FAILED:
            self._journal.outcome(number, "failed", duration, step.error)
        else:
            step.outcome = PLANNED[step.outcome]
            self._journal.outcome(number, "done", duration)

    def _verify(self, step: Step) -> None:
        resource = step.entry.resource
        left = differences(resource.read(self._host), resource.desired(self._host))
        if left is not None:
            words = ", ".join(_difference_in_words(change) for change in left.attributes) or "it is still there"
            raise ResourceError(f"it was applied, but did not converge: {words}")

    def _fail(self, step: Step, error: AgentError) -> None:
        step.outcome, step.error = FAILED, str(error)

    # Refreshes and checks

    def _refresh(self, step: Step) -> None:
        resource = step.entry.resource
        assert isinstance(resource, Refreshable)
        causes = [ref for ref in resource.listens_to() if ref in self._touched]
        causes += [cause for cause in self._journal.owed().get(step.id, ()) if cause not in causes]
        if not causes:
            if step.outcome == "would-refresh":
                step.outcome, step.cause = IN_DESIRED_STATE, None
            return
        step.refresh_causes, step.refresh = causes, resource.refresh_action(causes)
        if step.change is None or not resource.fulfils_refresh(step.change):
            self._refresh_now(step, resource, causes)
        else:
            step.refresh_causes, step.refresh = [], ""
        if step.outcome != FAILED:
            self._journal.strike_off(step.id)

    def _refresh_now(self, step: Step, resource: Refreshable, causes: Sequence[str]) -> None:
        if step.outcome not in DONE:
            step.outcome, step.cause = "would-refresh", "refresh"
        self._watcher.begins(step)
        started = time.perf_counter()
        because = [AttributeChange("refresh", None, f"{step.refresh} ({', '.join(causes)})")]
        intent = Intent(step.id, step.entry.source, "refresh", "refresh", None, because, None, [], [])
        intent = self._with_listeners(step, intent)
        number = self._journal.intend(self._run, [intent])[0]
        error = None
        try:
            resource.refresh(self._host, causes)
            self._host.forget()
            self._verify(step)
        except ResourceError as failure:
            error = failure
            self._fail(step, failure)
        finally:
            self._host.forget()
        duration = time.perf_counter() - started
        step.duration += duration
        self._journal.outcome(number, "failed" if error else "done", duration, str(error) if error else None)
        if step.outcome == "would-refresh":
            step.outcome = PLANNED[step.outcome]

    def _with_listeners(self, step: Step, intent: Intent) -> Intent:
        from dataclasses import replace

        return replace(intent, owes=self._listeners.get(step.id, ()))

    def _check(self, step: Step) -> None:
        resource = step.entry.resource
        assert isinstance(resource, Checking)
        self._watcher.begins(step)
        started = time.perf_counter()
        try:
            step.note = resource.check(self._host)
        except ResourceError as error:
            self._fail(step, error)
        step.duration += time.perf_counter() - started

    # Several in one go

    def _together(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if self._touched and not self._touched.isdisjoint(step.entry.requires):
                self._planner.look(step)
        due = [step for step in steps if step.change is not None]
        if not due:
            return
        cls = type(due[0].entry.resource)
        assert issubclass(cls, Groupable)
        for step in due:
            self._watcher.begins(step)
        started = time.perf_counter()
        numbers = self._journal.intend(self._run, [self._intent(step) for step in due])
        errors: Mapping[str, Exception] = {}
        try:
            errors = cls.apply_group(self._host, [(step.entry.resource, step.change) for step in due])
        except ResourceError as error:
            errors = {step.id: error for step in due}
        finally:
            self._host.forget()
        each = (time.perf_counter() - started) / len(due)
        for step, number in zip(due, numbers, strict=True):
            if step.id in errors:
                step.outcome, step.error = FAILED, str(errors[step.id])
            self._ended(step, number, each)


def _difference_in_words(change: AttributeChange) -> str:
    return f"{change.attribute} is {_short(change.actual)}, not {_short(change.desired)}"


def _short(value: object) -> str:
    text = str(shown(value))
    return text if len(text) <= 80 else text[:77] + "…"


def listeners_of(steps: Sequence[Step]) -> dict[str, list[str]]:
    """By id of what is listened to, the ids of those that listen."""
    found: dict[str, list[str]] = {}
    for step in steps:
        resource = step.entry.resource
        if isinstance(resource, Refreshable):
            for ref in resource.listens_to():
                found.setdefault(ref, []).append(step.id)
    return found


__all__ = ["Applier", "Path", "Watcher", "listeners_of"]
