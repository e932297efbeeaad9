"""Rollback: what a run and those after it changed goes back to the state before, the last change first.

Nothing new is carried out here: kinds undo (`Undoable`), and what listens is refreshed as after an apply. A rollback is
a run of its own in the journal, so it can be looked at and rolled back as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

from agent.declaration.desired import Desired
from agent.engine import Engine, Places
from agent.engine.backplan import IN_PART, BackPlan
from agent.engine.changed import changed_since
from agent.engine.context import Context, Watcher
from agent.engine.plan import INTERRUPTED
from agent.engine.result import Report
from agent.engine.step import DONE, FAILED, PLANNED, SKIPPED, Step
from agent.engine.undo import between, undo
from agent.errors import ResourceError, UsageError
from agent.host.lock import exclusive
from agent.journal import Journal
from agent.resource import Change, State


class Rollback(Engine):
    """A site's run that is to be rolled back. With `force` also what was changed by others since."""

    def __init__(
        self,
        desired: Desired,
        places: Places,
        run: int,
        *,
        force: bool = False,
    ) -> None:
        super().__init__(desired, places)
        self._run = run
        self._force = force
        self._seen: int | None = None

    def tell_progress(self, progress: Callable[[str], None]) -> None:
        """Where to say what is waited for."""
        self._progress = progress

    def preview(self, watcher: Watcher | None = None) -> Report:
        """Say what would be put back, and what cannot be; nothing is changed. Raises UsageError for no such run."""
        started = time.perf_counter()
        journal = Journal.to_read(self._places.state)
        if journal is None:
            raise UsageError(f"there is no run {self._run}", hint="nothing was applied yet, or it takes sudo to see it")
        with closing(journal):
            self._check_run(journal)
            self._seen = journal.rolling.newest_change()
            report = Report("check", str(self._desired.site), [])
            self._planned(journal, report, watcher or Watcher())
        report.duration = time.perf_counter() - started
        return report

    def roll_back(self, *, wait: bool = False, watcher: Watcher | None = None) -> Report:
        """Put it all back. Raises LockHeld, and ResourceError where more was changed since it was previewed."""
        lock = self._places.run / "lock"
        with (
            exclusive(lock, "agent rollback", wait=wait, progress=self._progress, stopped=lambda: self._stop),
            closing(Journal(self._places.state, write=True)) as journal,
        ):
            self._check_run(journal)
            if self._seen not in (None, journal.rolling.newest_change()):
                raise ResourceError("something else was changed meanwhile; nothing was put back", hint="run it again")
            return self._roll_back(journal, watcher or Watcher())

    def _check_run(self, journal: Journal) -> None:
        row = journal.run(self._run)
        if row is None:
            raise UsageError(f"there is no run {self._run}", hint="`agent log` lists them")
        if row["site"] != str(self._desired.site):
            raise UsageError(f"run {self._run} was one of the site {row['site']}", hint="name that one with --site")
        if not journal.rolling.is_complete_since(self._run):
            raise UsageError(
                f"of the runs since {self._run} some are no longer in the journal", hint="choose a later one"
            )

    def _roll_back(self, journal: Journal, watcher: Watcher) -> Report:
        started = time.perf_counter()
        self._clean_up(journal)
        run = journal.begin("rollback", self._desired.site)
        report = Report("rollback", str(self._desired.site), [], run)
        outcome = "failed"
        try:
            context, plan = self._planned(journal, report, watcher)
            self._carry_out_all(context, plan)
            plan.followers.refresh()
            report.interrupted = self._stop
            outcome = "interrupted" if self._stop else "failed" if report.exit_status else "rolled back"
        finally:
            journal.end(run, outcome, report.summary)
        report.notes += context.host.notes
        report.duration = time.perf_counter() - started
        return report

    def _planned(self, journal: Journal, report: Report, watcher: Watcher) -> tuple[Context, BackPlan]:
        """What is to be done; the report has its steps and notes."""
        context = self._context(journal, self._host(journal), watcher, run=report.run, kind=_Context)
        plan = BackPlan(context, self._desired, force=self._force)
        plan.make(changed_since(journal, self._run, self._desired.site))
        report.bugs = context.planner.bugs
        report.steps += [*plan.steps, *plan.followers.steps]
        report.notes += plan.notes
        return context, plan

    # Carrying it out

    def _carry_out_all(self, context: Context, plan: BackPlan) -> None:
        for step in plan.steps:
            if step.outcome in PLANNED and self._stop:
                step.outcome, step.note = SKIPPED, INTERRUPTED
            elif step.outcome in PLANNED and step.change is not None:
                self._hold(context, step)
                undo(context, step, step.change, plan.targets[step.id])
                if step.outcome in DONE:
                    self._verify(context, step, step.change, plan.targets[step.id])
                if step.outcome in DONE:
                    context.touched.add(step.id)
                else:
                    context.journal.rolling.release(step.id)
            context.watcher.ended(step)

    def _hold(self, context: Context, step: Step) -> None:
        """The resident agent leaves it alone from now on; on the disk together with the intent."""
        own = next((entry for entry in self._desired.entries if entry.id == step.id), None)
        if own is not None:
            with suppress(ResourceError, OSError):  # what cannot be told can be neither compared nor applied
                context.journal.rolling.hold(step.id, context.journal.comparable(own.resource.desired(context.host)))

    def _verify(self, context: Context, step: Step, change: Change, target: State | None) -> None:
        """Read it again: what did not come back as it was has failed, unless it was said before."""
        resource: Any = step.entry.resource
        context.watcher.reads_again(step)
        try:
            actual = resource.read(context.host)
        except ResourceError:  # as of a unit that went with its package
            context.journal.rolling.put_back(step.id, context.journal.comparable(target))
            return
        context.journal.rolling.put_back(step.id, context.journal.comparable(actual))
        due = {each.attribute for each in change.attributes}.difference(resource.not_undone)
        left = [each.attribute for each in between(actual, target) if each.attribute in due]
        if not step.note.startswith(IN_PART) and ((actual is None) != (target is None) or left):
            step.outcome = FAILED
            step.error = f"it was put back, but reads otherwise: {', '.join(left) or 'existence'}"


class _Context(Context):
    """A refresh leaves a resource in the state that it was in, which need not be the declared one."""

    def verify(self, step: Step) -> None:
        """Only that it can be read."""
        step.entry.resource.read(self.host)
