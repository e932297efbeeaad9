"""Refreshes and acceptance checks: what follows from a change."""

from __future__ import annotations

import time
from collections.abc import Sequence

from agent.engine.context import Context
from agent.engine.step import DONE, FAILED, IN_DESIRED_STATE, PLANNED, Step
from agent.journal import Intent
from agent.resource import AttributeChange, Checking, Refreshable


def refresh(context: Context, step: Step, resource: Refreshable) -> None:
    """Refresh a resource where something it listens to was changed, in this run or in one that was cut off."""
    causes = [ref for ref in resource.listens_to() if ref in context.touched]
    causes += [cause for cause in context.journal.owed().get(step.id, ()) if cause not in causes]
    if not causes:
        if step.outcome == "would-refresh":
            step.outcome, step.cause = IN_DESIRED_STATE, None
        return
    step.refresh_causes, step.refresh = causes, resource.refresh_action(causes)
    if step.change is None or not resource.fulfils_refresh(step.change):
        _refresh_now(context, step, resource, causes)
    else:
        step.refresh_causes, step.refresh = [], ""
    if step.outcome != FAILED:
        context.journal.strike_off(step.id)
        context.journal.flush()


def _refresh_now(context: Context, step: Step, resource: Refreshable, causes: Sequence[str]) -> None:
    if step.outcome not in DONE:
        step.outcome, step.cause = "would-refresh", "refresh"
    context.watcher.begins(step)
    started = time.perf_counter()
    because = [AttributeChange("refresh", None, f"{step.refresh} ({', '.join(causes)})")]
    intent = context.intent(step, "refresh", "refresh", attributes=because)
    number = context.journal.intend(context.run, [intent])[0]
    try:
        resource.refresh(context.host, causes)
        context.host.forget()
        context.watcher.reads_again(step)
        context.verify(step)
    except Exception as error:  # noqa: BLE001 - a bug in a kind, too, is its resource's
        step.outcome, step.error = FAILED, context.planner.hide(str(context.planner.told(error)))
    finally:
        context.host.forget()
    duration = time.perf_counter() - started
    step.duration += duration
    context.journal.outcome(number, "failed" if step.outcome == FAILED else "done", duration, step.error)
    step.outcome = PLANNED.get(step.outcome, step.outcome)


def check(context: Context, step: Step, resource: Checking) -> None:
    """Run an acceptance check, as something that it requires was changed."""
    context.journal.flush()  # it may take long, and what was done so far must not be done again
    context.watcher.begins(step)
    started = time.perf_counter()
    try:
        step.note = context.planner.hide(resource.check(context.host))
    except Exception as error:  # noqa: BLE001 - a bug in a kind, too, is its resource's
        step.outcome, step.error = FAILED, context.planner.hide(str(context.planner.told(error)))
    duration = time.perf_counter() - started
    step.duration += duration
    if step.error is not None:
        context.journal.failed(context.run, Intent(step.id, step.entry.source, "check", ""), step.error, duration)
