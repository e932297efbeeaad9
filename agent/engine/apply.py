"""Apply: carries a plan out, reads again, refreshes what listens, and journals each step before it is taken."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from agent.engine.context import Context
from agent.engine.plan import INTERRUPTED, block
from agent.engine.refresh import check, refresh
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
from agent.errors import Degraded, ResourceError
from agent.journal import Intent
from agent.resource import Change, Checking, Groupable, Refreshable


class Applier:
    """One apply of a plan. What failed but can be used (`Degraded`) blocks nothing; `failed` did so before."""

    def __init__(self, context: Context, failed: Collection[str] = ()) -> None:
        self._context = context
        self._host = context.host
        self._journal = context.journal
        self._planner = context.planner
        self.failed = set(failed)
        """What failed, or was not done because of that."""
        self._degraded: dict[str, bool] = {}

    def apply(self, steps: Sequence[Step]) -> None:
        """Carry all steps out, in the order of work; each ends with its final outcome."""
        for batch in batches(steps):
            if self._context.stopped():
                self._skip(batch)
                continue
            ready = [step for step in batch if not block(step, self.failed)]
            if len(ready) > 1:
                self._together(ready)
            for step in ready:
                if step.outcome not in DONE and (step.outcome != FAILED or step.change is None):
                    self._alone(step)
            for step in batch:
                self._settle(step)

    def _skip(self, batch: Sequence[Step]) -> None:
        for step in batch:
            if step.outcome in PLANNED or step.outcome == UNKNOWN:
                step.outcome, step.note = SKIPPED, INTERRUPTED
            self._context.watcher.ended(step)

    def _settle(self, step: Step) -> None:
        if step.outcome in DONE:
            self._context.touched.add(step.id)
            self._context.recorder.done(step)
        elif step.id in self._degraded:
            self._context.touched.update([step.id] * self._degraded[step.id])
        elif step.outcome in (FAILED, BLOCKED):
            self.failed.add(step.id)
        self._context.watcher.ended(step)

    # One resource

    def _alone(self, step: Step) -> None:
        touched = self._context.touched
        needs_changed = bool(touched) and not touched.isdisjoint(step.entry.requires)
        if step.outcome == IN_DESIRED_STATE and not needs_changed:
            return
        resource = step.entry.resource
        if needs_changed or step.outcome == UNKNOWN or (touched and step.outcome == FAILED):
            self._look_again(step)
        if step.outcome == FAILED:
            self._not_readable(step)
        elif isinstance(resource, Checking):
            if needs_changed:
                check(self._context, step, resource)
        else:
            if step.change is not None and not step.outside:
                self._change(step, step.change)
            if step.outcome not in (FAILED, UNKNOWN) and isinstance(resource, Refreshable):
                refresh(self._context, step, resource)

    def _look_again(self, step: Step) -> None:
        """Read it now that others were changed: what was right until then has not drifted, but follows from that."""
        was_right = step.outcome in (IN_DESIRED_STATE, "would-refresh")
        self._planner.look(step)
        if was_right and step.cause == "drift":
            step.cause = "refresh"

    def _not_readable(self, step: Step) -> None:
        intent = Intent(step.id, step.entry.source, "read", "")
        self._journal.failed(self._context.run, intent, step.error or "", step.duration)

    def _change(self, step: Step, change: Change) -> None:
        self._context.watcher.begins(step)
        started = time.perf_counter()
        number = self._journal.intend(self._context.run, [self._intent(step, change)])[0]
        try:
            step.entry.resource.apply(self._host, change)
        except Degraded as error:
            self._degraded[step.id] = error.changed
            self._fail(step, error)
        except Exception as error:  # noqa: BLE001 - a bug in a kind, too, is its resource's
            self._fail(step, error)
        finally:
            self._host.forget()
        if step.outcome != FAILED:
            self._context.watcher.reads_again(step)
        self._ended(step, number, time.perf_counter() - started)

    def _intent(self, step: Step, change: Change) -> Intent:
        return self._context.intent(
            step,
            step.outcome.removeprefix("would-"),
            step.cause or "intent",
            before=change.actual,
            attributes=change.attributes,
            diff=step.diff,
            memory=self._context.recorder.declared(step),
        )

    def _ended(self, step: Step, number: int, duration: float) -> None:
        """Read again after a change: what still differs has failed."""
        step.duration += duration
        if step.outcome == FAILED:
            self._owe_for(step)
        else:
            try:
                self._context.verify(step)
            except Exception as error:  # noqa: BLE001 - a bug in a kind, too, is its resource's
                self._fail(step, error)
        if step.outcome == FAILED:
            self._journal.outcome(number, "failed", duration, step.error)
        else:
            step.outcome = PLANNED[step.outcome]
            self._journal.outcome(number, "done", duration)

    def _owe_for(self, step: Step) -> None:
        """A change that failed before it changed anything owes no refresh."""
        if self._context.listeners.get(step.id):
            with suppress(ResourceError, OSError):
                if self._planner.difference(step) == step.change:
                    self._journal.owe_not(step.id, self._context.run)

    def _fail(self, step: Step, error: Exception) -> None:
        step.outcome, step.error = FAILED, self._planner.hide(str(self._planner.told(error)))

    # Several in one go

    def _together(self, steps: Sequence[Step]) -> None:
        touched = self._context.touched
        for step in steps:
            if touched and not touched.isdisjoint(step.entry.requires):
                self._look_again(step)
        due = [(step, step.change) for step in steps if step.change is not None]
        if not due:
            return
        cls = type(due[0][0].entry.resource)
        assert issubclass(cls, Groupable)
        for step, _ in due:
            self._context.watcher.begins(step)
        started = time.perf_counter()
        numbers = self._journal.intend(self._context.run, [self._intent(step, change) for step, change in due])
        errors: Mapping[str, Exception] = {}
        try:
            errors = cls.apply_group(self._host, [(step.entry.resource, change) for step, change in due])
        except Exception as error:  # noqa: BLE001 - a bug in a kind, too, is its resource's
            errors = {step.id: error for step, _ in due}
        finally:
            self._host.forget()
        each = (time.perf_counter() - started) / len(due)
        for step, _ in due:
            if step.id in errors:
                self._fail(step, errors[step.id])
            else:
                self._context.watcher.reads_again(step)
        for (step, _), number in zip(due, numbers, strict=True):
            self._ended(step, number, each)
