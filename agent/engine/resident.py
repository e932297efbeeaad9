"""The engine for who stays: single resources of a site are looked at and put right, again and again.

It is the same plan and the same apply as for everybody else. What differs: only the resources that are named are read;
where nothing differs, no run is journalled; journal and host stay open in between.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from agent.declaration.desired import Desired
from agent.engine import Engine, Places
from agent.engine.apply import Applier
from agent.engine.context import Context, Watcher, listeners_of
from agent.engine.removal import Removals
from agent.engine.result import Report
from agent.engine.step import BLOCKED, DONE, FAILED, IN_DESIRED_STATE, PLANNED, Step
from agent.errors import ResourceError
from agent.graph import Entry
from agent.host import Host
from agent.host.lock import RESIDENT, exclusive
from agent.host.mounts import Mount, real
from agent.journal import Journal
from agent.resource import Checking

MODE = "watch"


class Resident(Engine):
    """A site that stays under watch; `use` gives it the site anew."""

    def __init__(
        self, desired: Desired, places: Places, progress: Callable[[str], None], watcher: Watcher | None = None
    ) -> None:
        super().__init__(desired, places, progress)
        self._watcher = watcher or Watcher()
        self._journal: Journal | None = None
        self._journal_is: tuple[int, int] | None = None
        self._kept_host: Host | None = None
        self._failed: dict[str, str | None] = {}
        self._unmet: set[str] = set()
        self._mounted: dict[str, Mount | None] = {}
        self.left_owed: set[str] = set()
        """What listens to something that another run changed and did not refresh, but for what fails."""
        self.run: int | None = None
        """The number of the run that is under way, or was last."""
        self.use(desired)

    def use(self, desired: Desired) -> None:
        """From now on this is the site."""
        self._desired = desired
        self._kept_host = None
        self.places_in_order = {entry.id: i for i, entry in enumerate(desired.entries)}
        self._listeners = listeners_of([Step(entry) for entry in desired.entries])
        self._checks: dict[str, list[str]] = {}
        for entry in desired.entries:
            if isinstance(entry.resource, Checking):
                for needed in entry.requires:
                    self._checks.setdefault(needed, []).append(entry.id)
        self._mounts = {entry.id: folder for entry in desired.entries if (folder := entry.resource.hides(None))}
        self._mounted = {id: mount for id, mount in self._mounted.items() if id in self._mounts}
        self._unmet &= self.places_in_order.keys()

    def close(self) -> None:
        """Leave the journal."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def release(self) -> None:
        """Give up what others may wait for: connections to databases. What was learnt of declarations stays."""
        if self._kept_host is not None:
            self._kept_host.leave()

    def writers(self) -> set[int]:
        """Process numbers of what changed netfilter's rules for this agent since this was last asked."""
        return set() if self._kept_host is None else self._kept_host.rule_writers()

    def reconcile(self) -> Report:
        """Bring everything to its desired state, as `agent apply` does. Raises LockHeld."""
        return self._run([entry.id for entry in self._desired.entries], whole=True)

    def repair(self, ids: Collection[str], *, undo_removed: bool = False) -> Report:
        """Look at these and put right what differs, then refresh what listens to it. Raises LockHeld."""
        return self._run(ids, undo_removed=undo_removed)

    def _run(self, ids: Collection[str], *, whole: bool = False, undo_removed: bool = False) -> Report:
        started = time.perf_counter()
        with exclusive(self._places.run / "lock", RESIDENT):
            journal = self._opened()
            if whole:
                self._clean_up(journal)
            report = Report(MODE, str(self._desired.site), [])
            context = self._context(journal, self._fresh_host(journal), self._watcher, listeners=self._listeners)
            report.bugs = context.planner.bugs
            entries = self._entries(context.host, ids)
            self._make_secrets(entries, report)
            removals = Removals(journal, self._desired.site, self._desired.entries) if whole or undo_removed else None
            try:
                self._carry_out_some(context, entries, report, removals, whole=whole)
            finally:
                if report.run is not None:
                    journal.end(report.run, self._outcome(report), report.summary)
            if self._is_known(report) and report.run is not None:
                journal.forget_run(report.run)
                report.run = None
            self.left_owed = journal.owed().keys() & self.places_in_order.keys() - context.planner.steps.keys()
            self.left_owed -= self._failed.keys()
        for step in report.steps:
            if step.id in self._mounts and (step.outcome == IN_DESIRED_STATE or step.outcome in DONE):
                self._mounted[step.id] = self._seen_at(context.host, step.id)
        report.notes += context.host.notes
        report.duration = time.perf_counter() - started
        return report

    def _is_known(self, report: Report) -> bool:
        """Whether all that it came to is what failed in the same way before: it would fill the journal for good."""
        failed = {step.id: step.error for step in report.steps if step.outcome in (FAILED, BLOCKED)}
        known = bool(failed) and failed.items() <= self._failed.items()
        for step in report.steps:
            self._failed.pop(step.id, None)
        self._failed |= failed
        return known and not any(step.outcome in DONE for step in report.steps)

    def _outcome(self, report: Report) -> str:
        failed = any(step.error for step in report.steps)
        return "interrupted" if self._stop else "failed" if failed or not report.steps else "converged"

    def _carry_out_some(
        self, context: Context, entries: Sequence[Entry], report: Report, removals: Removals | None, *, whole: bool
    ) -> None:
        if removals is not None:
            self._begin(context, report)
            report.steps += removals.undo_in_the_way(context)
        self._unmet -= {entry.id for entry in entries}
        steps = context.planner.plan(entries, self._watcher.begins, context.stopped, self._unmet)
        report.steps += steps
        held = context.journal.rolling.held()
        due = [step for step in steps if not _only_told(step) and not _is_held(context, step, held)]
        if any(step.outcome in PLANNED and not step.outside for step in due):
            self._begin(context, report)
        if report.run is None:
            for step in due:
                if step.outcome in (FAILED, BLOCKED):
                    self._unmet.add(step.id)
                    self._watcher.ended(step)
            return
        applier = Applier(context, self._unmet)
        applier.apply(due)
        while more := self._followers(context):
            applier.apply(more)
            report.steps += more
        self._unmet = applier.failed
        if removals is not None and not self._stop:
            report.steps += removals.undo_rest(context)
            report.notes += removals.tell()
        if whole or removals is not None:
            context.recorder.found(report.steps)

    def _begin(self, context: Context, report: Report) -> None:
        if report.run is None:
            self.run = report.run = context.run = context.journal.begin(MODE, self._desired.site, flush=False)

    def _followers(self, context: Context) -> list[Step]:
        """What listens to, or checks, what was changed and has not had its turn."""
        ids = {
            follower
            for id in context.touched
            for follower in (*self._listeners.get(id, ()), *self._checks.get(id, ()))
            if follower not in context.planner.steps
        }
        steps = [Step(self._desired.entries[place]) for place in sorted(self.places_in_order[id] for id in ids)]
        context.planner.steps |= {step.id: step for step in steps}
        return steps

    def _entries(self, host: Host, ids: Collection[str]) -> list[Entry]:
        """These in order, with the mounts that they lie on where those are not as they were found right.

        So nothing goes beneath a mount, or onto another one that lies over it.
        """
        places = {self.places_in_order[id] for id in ids if id in self.places_in_order}
        if self._mounts and len(places) < len(self._desired.entries):
            bare = [id for id in self._mounts if not self._is_right(host, id)]
            for place in tuple(places):
                needed = self._desired.entries[place].requires
                places.update(self.places_in_order[id] for id in bare if id in needed)
        return [self._desired.entries[place] for place in sorted(places)]

    def _is_right(self, host: Host, id: str) -> bool:
        mount = self._seen_at(host, id)
        return mount is not None and mount == self._mounted.get(id)

    def _seen_at(self, host: Host, id: str) -> Mount | None:
        return host.mounts.at(real(self._mounts[id]))

    def _fresh_host(self, journal: Journal) -> Host:
        """The host as nobody has looked at it yet; what is expensive to make, such as connections, is kept."""
        if self._kept_host is None:
            self._kept_host = self._host(journal)
        host: Host = self._kept_host
        host.forget()
        host.done.clear()
        host.notes.clear()
        host.last_set = journal.last_set
        host.__dict__.pop("nameservers", None)
        return host

    def _opened(self) -> Journal:
        """The journal: opened anew where somebody moved it away."""
        try:
            status = os.stat(self._places.state / "journal.sqlite")
            found: Any = (status.st_dev, status.st_ino)
        except FileNotFoundError:
            found = None
        if self._journal is None or found != self._journal_is:
            self.close()
            self._journal = Journal(self._places.state, write=True)
            status = os.stat(self._places.state / "journal.sqlite")
            self._journal_is = (status.st_dev, status.st_ino)
        return self._journal


def _only_told(step: Step) -> bool:
    """Whether it drifted, and its declaration says that this is only to be reported."""
    told: bool = step.cause == "drift" and step.entry.resource.drift == "report"
    return told and step.outcome != IN_DESIRED_STATE


def _is_held(context: Context, step: Step, held: Mapping[str, str]) -> bool:
    """Whether it was rolled back, and its declaration still asks for what it asked for then."""
    if step.id not in held or step.outcome not in PLANNED:
        return False
    with suppress(ResourceError, OSError):
        if held[step.id] == context.journal.comparable(step.entry.resource.desired(context.host)):
            step.note = "rolled back, and left so until its declaration changes or `agent apply` is run"
            return True
    return False
