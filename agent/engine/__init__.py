"""The engine: reads, plans, applies, refreshes. All commands that touch the host come through `Engine`."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.declaration.desired import Desired, resource_fields
from agent.engine.apply import Applier, Watcher, listeners_of
from agent.engine.plan import Planner
from agent.engine.removal import Removed, removed
from agent.engine.step import BLOCKED, DONE, FAILED, IN_DESIRED_STATE, PLANNED, SKIPPED, UNKNOWN, Step
from agent.engine.targets import select
from agent.errors import JournalError, ResourceError
from agent.graph import Entry
from agent.host import Host
from agent.host.lock import exclusive
from agent.journal import Intent, Journal
from agent.resource import Undoable

__all__ = ["Engine", "Places", "Report", "Watcher"]


@dataclass(frozen=True)
class Places:
    """Where the agent keeps what is its own: `state` for journal, backups and compiled form; `run` for lock and socket."""

    state: Path
    run: Path


@dataclass
class Report:
    """What a run came to: its steps in the order of the plan, and notes for the user."""

    mode: str
    site: str
    steps: list[Step]
    run: int | None = None
    duration: float = 0.0
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def summary(self) -> dict[str, int]:
        """How many resources have each outcome."""
        return dict(Counter(step.outcome for step in self.steps))

    @property
    def converged(self) -> bool:
        """Whether every resource is known to be in its desired state."""
        return all(step.outcome == IN_DESIRED_STATE or step.outcome in DONE for step in self.steps)

    @property
    def exit_status(self) -> int:
        """0 in the desired state or made so, 1 something failed, 2 a check found changes to make."""
        outcomes = {step.outcome for step in self.steps}
        if outcomes & {FAILED, BLOCKED, SKIPPED} or self.interrupted:
            return 1
        if self.mode == "apply":
            return 0 if self.converged else 1
        return 2 if outcomes & {*PLANNED, UNKNOWN} else 0


class Engine:
    """A compiled site on a host."""

    def __init__(self, desired: Desired, places: Places, progress: Callable[[str], None] | None = None) -> None:
        self._desired = desired
        self._places = places
        self._progress = progress or (lambda _text: None)
        self._stop = False

    def stop(self) -> None:
        """Ask a running apply to end after the step in hand."""
        self._stop = True

    def check(self, targets: Sequence[str] = (), on_step: Callable[[Step], None] | None = None) -> Report:
        """Read everything and say what would be changed; nothing is."""
        started = time.perf_counter()
        entries = select(self._desired.entries, targets)
        journal = self._journal_to_read()
        host = self._host(journal)
        planner = Planner(
            host, journal.was_set_to if journal else lambda _id, _state: None, journal.owed() if journal else {}
        )
        report = Report("check", str(self._desired.site), planner.plan(entries, on_step))
        if journal is not None:
            if not targets:
                report.steps += [step for each in self._removed(journal) if each.undoes and (step := each.plan(host))]
            journal.close()
        report.duration = time.perf_counter() - started
        return report

    def history(self) -> dict[str, dict[str, Any]]:
        """By resource id: how often drift was repaired (`repairs`), and when it was last seen (`last_drift`)."""
        journal = self._journal_to_read()
        if journal is None:
            return {}
        try:
            return journal.repairs()
        finally:
            journal.close()

    def apply(self, targets: Sequence[str] = (), *, wait: bool = False, watcher: Watcher | None = None) -> Report:
        """Bring the host to the desired state. One at a time: raises LockHeld, or waits for the other with `wait`."""
        entries = select(self._desired.entries, targets)
        with exclusive(self._places.run / "lock", "agent apply", wait=wait, progress=self._progress):
            journal = Journal(self._places.state, write=True)
            try:
                return self._apply(journal, entries, not targets, watcher or Watcher())
            finally:
                journal.close()

    def _apply(self, journal: Journal, entries: Sequence[Entry], whole: bool, watcher: Watcher) -> Report:
        started = time.perf_counter()
        self._clean_up(journal)
        run = journal.begin("apply", self._desired.site)
        report = Report("apply", str(self._desired.site), [], run)
        host = self._host(journal)
        outcome = "failed"
        try:
            self._make_secrets(entries, report)
            planner = Planner(host, journal.was_set_to, journal.owed())
            report.steps = planner.plan(entries)
            listeners = listeners_of([Step(entry) for entry in self._desired.entries])
            Applier(host, journal, run, planner, listeners, watcher, lambda: self._stop).apply(report.steps)
            if whole and not self._stop:
                self._undo_removed(journal, host, run, report, watcher)
            self._record(journal, host, report.steps)
            report.interrupted = self._stop
            self._note_owed(journal, report, whole)
            outcome = "interrupted" if self._stop else "failed" if report.exit_status else "converged"
        finally:
            journal.end(run, outcome, report.summary)
        report.duration = time.perf_counter() - started
        return report

    def _host(self, journal: Journal | None) -> Host:
        host = Host(run_dir=str(self._places.run), progress=self._progress)
        if journal is not None:
            host.last_set = journal.last_set
        return host

    def _journal_to_read(self) -> Journal | None:
        if not os.access(self._places.state / "journal.sqlite", os.R_OK):
            return None
        try:
            return Journal(self._places.state, write=False)
        except JournalError:
            return None

    def _clean_up(self, journal: Journal) -> None:
        """Remove what a run that was cut off left behind."""
        for path in journal.leftovers():
            with suppress(OSError):
                Path(path).unlink(missing_ok=True)
        shutil.rmtree(self._places.run / "stage", ignore_errors=True)

    def _make_secrets(self, entries: Sequence[Entry], report: Report) -> None:
        names = {name for entry in entries for name in self._desired.users.get(entry.id, ())}
        for path in self._desired.secrets.generate(sorted(names)):
            report.notes.append(f"a secret was generated into {path}; keep a copy of it elsewhere")

    def _record(self, journal: Journal, host: Host, steps: Sequence[Step]) -> None:
        """Remember what each resource is now set to, so that a later difference is told to be drift or intent."""
        known = journal.recorded()
        for step in steps:
            if not step.entry.state or step.outcome not in (*DONE, IN_DESIRED_STATE):
                continue
            resource = step.entry.resource
            with suppress(ResourceError):
                state = resource.desired(host)
                if step.outcome in DONE or known.get(step.id) != journal.comparable(state):
                    fields = {name: getattr(resource, name) for name in resource_fields(resource)}
                    journal.record(
                        step.id,
                        self._desired.site,
                        step.entry.source,
                        resource.kind,
                        fields,
                        resource.on_removal,
                        state,
                    )

    def _note_owed(self, journal: Journal, report: Report, whole: bool) -> None:
        owed = journal.owed()
        if whole:
            journal.forget_owed(set(owed) - {entry.id for entry in self._desired.entries})
        elif waiting := [id for id in owed if id not in {step.id for step in report.steps}]:
            report.notes.append(f"still to be refreshed: {', '.join(waiting)} (run `agent apply` without targets)")

    # Removed declarations

    def _removed(self, journal: Journal) -> list[Removed]:
        return list(removed(journal, self._desired.site, {entry.id for entry in self._desired.entries}))

    def _undo_removed(self, journal: Journal, host: Host, run: int, report: Report, watcher: Watcher) -> None:
        for each in reversed(self._removed(journal)):
            if not each.undoes:
                if not each.told:
                    report.notes.append(
                        f"{each.id} is no longer declared and was left alone (it was at {each.entry.source})"
                    )
                    journal.told(each.id)
                continue
            step = each.plan(host)
            if step is not None:
                report.steps.append(step)
                self._undo(journal, host, run, each, step)
                watcher.ended(step)
            if step is None or step.outcome in DONE:
                journal.forget(each.id)

    def _undo(self, journal: Journal, host: Host, run: int, each: Removed, step: Step) -> None:
        if step.change is None:
            return
        resource = each.entry.resource
        assert isinstance(resource, Undoable)
        action = step.outcome.removeprefix("would-")
        intent = Intent(step.id, step.entry.source, action, "intent", step.change.actual, step.change.attributes,
                        step.diff, list(resource.temporaries()), [])  # fmt: skip
        number = journal.intend(run, [intent])[0]
        try:
            resource.undo(host, each.original())
            step.outcome = PLANNED[step.outcome]
        except ResourceError as error:
            step.outcome, step.error = FAILED, str(error)
        host.forget()
        journal.outcome(number, "failed" if step.error else "done", step.duration, step.error)
