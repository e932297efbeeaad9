"""The engine: reads, plans, applies, refreshes. All commands that touch the host come through `Engine`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from agent.declaration.desired import Desired
from agent.engine.apply import Applier
from agent.engine.context import Context, Watcher, listeners_of
from agent.engine.plan import Past, Planner, block_all
from agent.engine.record import Recorder
from agent.engine.removal import Removals
from agent.engine.result import Report
from agent.engine.step import Step
from agent.engine.targets import select
from agent.graph import Entry
from agent.host import Host
from agent.host.lock import exclusive
from agent.journal import Journal
from agent.places import Places

__all__ = ["Engine", "Places", "Report", "Watcher"]


class Engine:
    """A compiled site on a host. With `confirm_within`, new firewall rules go unless confirmed in so many seconds."""

    def __init__(
        self,
        desired: Desired,
        places: Places,
        progress: Callable[[str], None] | None = None,
        *,
        confirm_within: float | None = None,
    ) -> None:
        self._desired = desired
        self._places = places
        self._progress = progress or (lambda _text: None)
        self._confirm_within = confirm_within
        self._tells = True
        self._stop = False

    def stop(self) -> None:
        """Ask a running apply to end after the step in hand."""
        self._stop = True

    def check(self, targets: Sequence[str] = (), watcher: Watcher | None = None) -> Report:
        """Read everything and say what would be changed; nothing is."""
        started = time.perf_counter()
        entries = select(self._desired.entries, targets)
        journal = Journal.to_read(self._places.state)
        try:
            report = self._check(journal, entries, not targets, watcher or Watcher())
        finally:
            if journal is not None:
                journal.close()
        report.duration = time.perf_counter() - started
        return report

    def _check(self, journal: Journal | None, entries: Sequence[Entry], whole: bool, watcher: Watcher) -> Report:
        host = self._host(journal)
        planner = Planner(host, journal or Past(), self._desired.secrets.hide)
        planner.nothing_follows = True
        removals = Removals(journal, self._desired.site, self._desired.entries) if journal and whole else None
        planner.unforeseeable = removals is not None and removals.make_room
        report = Report("check", str(self._desired.site), planner.plan(entries, watcher.begins), bugs=planner.bugs)
        block_all(report.steps)
        report.notes += host.notes
        if removals is not None:
            report.steps += removals.plan(host)
            report.notes += removals.notes()
        elif journal is not None:
            report.notes += self._waiting(journal, report)
        return report

    def history(self) -> dict[str, dict[str, Any]]:
        """By resource id: how often drift was repaired (`repairs`), and when it was last seen (`last_drift`)."""
        journal = Journal.to_read(self._places.state)
        if journal is None:
            return {}
        with closing(journal):
            return journal.repairs()

    def apply(
        self,
        targets: Sequence[str] = (),
        *,
        wait: bool = False,
        watcher: Watcher | None = None,
        tells: bool = True,
    ) -> Report:
        """Bring the host to the desired state. One at a time: raises LockHeld, or waits for the other with `wait`.

        Without `tells` nobody reads the notes, so what is said only once is left for the next run to say.
        """
        self._tells = tells
        entries = select(self._desired.entries, targets)
        lock = self._places.run / "lock"
        with (
            exclusive(lock, "agent apply", wait=wait, progress=self._progress, stopped=lambda: self._stop),
            closing(Journal(self._places.state, write=True)) as journal,
        ):
            return self._apply(journal, entries, not targets, watcher or Watcher())

    def _apply(self, journal: Journal, entries: Sequence[Entry], whole: bool, watcher: Watcher) -> Report:
        started = time.perf_counter()
        self._clean_up(journal)
        run = journal.begin("apply", self._desired.site)
        report = Report("apply", str(self._desired.site), [], run)
        outcome = "failed"
        try:
            self._carry_out(journal, entries, report, watcher, whole=whole)
            report.interrupted = self._stop
            outcome = "interrupted" if self._stop else "failed" if report.exit_status else "converged"
        finally:
            journal.end(run, outcome, report.summary)
        report.duration = time.perf_counter() - started
        return report

    def _carry_out(
        self, journal: Journal, entries: Sequence[Entry], report: Report, watcher: Watcher, *, whole: bool
    ) -> None:
        host = self._host(journal)
        self._make_secrets(entries, report)
        context = self._context(journal, host, watcher, run=report.run)
        report.bugs = context.planner.bugs
        removals = Removals(journal, self._desired.site, self._desired.entries) if whole else None
        undone = removals.undo_in_the_way(context) if removals else []
        report.steps = context.planner.plan(entries, watcher.begins, context.stopped)
        Applier(context).apply(report.steps)
        report.steps += undone
        if removals and not self._stop:
            report.steps += removals.undo_rest(context)
            report.notes += removals.tell() if self._tells else []
            journal.forget_owed(journal.owed_by(self._desired.site) - {entry.id for entry in self._desired.entries})
        context.recorder.found(report.steps)
        report.notes += host.notes
        report.notes += self._waiting(journal, report)

    def _context(
        self,
        journal: Journal,
        host: Host,
        watcher: Watcher,
        *,
        run: int | None = None,
        listeners: Mapping[str, Sequence[str]] | None = None,
        kind: type[Context] = Context,
    ) -> Context:
        """What the parts of one run share; `run` is its number, where it has one."""
        if listeners is None:
            listeners = listeners_of([Step(entry) for entry in self._desired.entries])
        planner = Planner(host, journal, self._desired.secrets.hide)
        recorder = Recorder(journal, host, self._desired.site)
        return kind(host, journal, run or 0, planner, listeners, recorder, watcher, lambda: self._stop)

    def _host(self, journal: Journal | None) -> Host:
        host = Host(run_dir=str(self._places.run), state_dir=str(self._places.state), progress=self._progress)
        host.declared = [entry.resource for entry in self._desired.entries]
        host.confirm_within = self._confirm_within
        if journal is not None:
            host.last_set = journal.last_set
        return host

    def _clean_up(self, journal: Journal) -> None:
        """Remove what a run that was cut off left behind."""
        import shutil

        for path in journal.leftovers():
            with suppress(OSError):
                Path(path).unlink(missing_ok=True)
        shutil.rmtree(self._places.run / "stage", ignore_errors=True)

    def _make_secrets(self, entries: Sequence[Entry], report: Report) -> None:
        names = {name for entry in entries for name in self._desired.users.get(entry.id, ())}
        for path in self._desired.secrets.generate(sorted(names)):
            report.notes.append(f"a secret was generated into {path}; keep a copy of it elsewhere")

    def _waiting(self, journal: Journal, report: Report) -> list[str]:
        """A word about refreshes that are owed to what was not among the targets."""
        seen = {step.id for step in report.steps}
        declared = {entry.id for entry in self._desired.entries}
        waiting = [id for id in journal.owed() if id in declared and id not in seen]
        return [f"still to be refreshed: {', '.join(waiting)} (run `agent apply` without targets)"] if waiting else []
