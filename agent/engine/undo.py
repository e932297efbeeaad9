"""Undoing: one resource goes back to an earlier state. Removed declarations and rollbacks both come through here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from agent.engine.context import Context
from agent.engine.step import FAILED, PLANNED, Step, diff_of, planned_outcome
from agent.errors import Degraded
from agent.journal import veiled
from agent.resource import AttributeChange, Change, State, Undoable


def plan_undo(step: Step, actual: State | None, target: State | None, last_set: Mapping[str, Any] | None) -> None:
    """Fill in what leads from the actual state back to the target."""
    change = Change(actual, target, between(actual, target))
    step.change = veiled(change, last_set)
    step.outcome = planned_outcome(step.change)
    step.diff = diff_of(step.entry.resource, step.change)


def between(actual: State | None, target: State | None) -> tuple[AttributeChange, ...]:
    """What differs between two states that were read; of one that goes, all of it."""
    present, wanted = actual or {}, target or {}
    names = [*wanted, *(name for name in present if name not in wanted)]
    return tuple(
        AttributeChange(name, present.get(name), wanted.get(name))
        for name in names
        if (name in present) != (name in wanted) or present[name] != wanted[name]
    )


def undo(context: Context, step: Step, change: Change, target: State | None) -> None:
    """Carry out what was planned; the journal has the intent before anything is touched."""
    resource = step.entry.resource
    assert isinstance(resource, Undoable)
    context.watcher.begins(step)
    started = time.perf_counter()
    action = step.outcome.removeprefix("would-")
    intent = context.intent(step, action, "intent", before=change.actual, attributes=change.attributes, diff=step.diff)
    number = context.journal.intend(context.run, [intent])[0]
    try:
        resource.undo(context.host, target)
        step.outcome = PLANNED[step.outcome]
    except Degraded as error:
        step.outcome, step.note = PLANNED[step.outcome], f"in part: {context.planner.hide(str(error))}"
    except Exception as error:  # noqa: BLE001 - a bug in a kind, too, is its resource's
        step.outcome, step.error = FAILED, context.planner.hide(str(context.planner.told(error)))
    finally:
        context.host.forget()
    step.duration = time.perf_counter() - started
    context.journal.outcome(number, "failed" if step.error else "done", step.duration, step.error)
