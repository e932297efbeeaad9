"""Rounds: some resources are looked at and put right in one go, and what came of each is made known."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

from agent.engine import Report
from agent.engine.resident import Resident
from agent.engine.step import BLOCKED, DONE, FAILED, IN_DESIRED_STATE, PLANNED, Step
from agent.errors import AgentError, LockHeld
from agent.host.apt.locks import LOCKS, holder
from agent.host.memory import give_back
from agent.host.systemd.supervisor import tell, watchdog_period
from agent.watch.calm import Calm
from agent.watch.state import State
from agent.watch.tell import Teller

REMOVED = "removed:"
"""The key of what is no longer declared, and still to be undone."""
QUICK = frozenset(("file", "block", "link", "directory"))
"""Kinds that are looked at within microseconds; they need not wait for what starts programs."""
LOCK_PAUSE = 0.1
TROUBLE_PAUSE = 10.0
_APT_PAUSE = 1.0
_FEW = 100
"""More than these are looked at in one round where it is time to, and not for an event."""
_LONG_STEP = 3600
"""Seconds that systemd's watchdog is given for a round that may install packages or start services."""


class Pulse:
    """Signs of life for systemd's watchdog, where it wants any."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._period = watchdog_period()
        self._next = 0.0

    def next_beat(self) -> float | None:
        """When the next one is due."""
        return self._next if self._period else None

    def beat(self) -> None:
        """Give one, if it is time."""
        if self._period and self.clock() >= self._next:
            tell("WATCHDOG=1")
            self._next = self.clock() + self._period / 2

    @contextmanager
    def held(self) -> Iterator[None]:
        """Something begins that may take long and gives no signs of life."""
        if self._period:
            tell("WATCHDOG=1", f"WATCHDOG_USEC={_LONG_STEP * 10**6}")
        try:
            yield
        finally:
            if self._period:
                tell("WATCHDOG=1", f"WATCHDOG_USEC={round(self._period * 1e6)}")


class Rounds:
    """Asks the engine, and tells `calm`, `state` and `teller` what it said."""

    def __init__(self, resident: Resident, calm: Calm, state: State, teller: Teller, pulse: Pulse) -> None:
        self._resident, self._calm, self._state = resident, calm, state
        self._teller, self._pulse, self._clock = teller, pulse, pulse.clock

    def everything(self, ids: Collection[str]) -> bool:
        """Bring all of the site to its desired state; gives False while somebody else holds the lock."""
        try:
            with self._pulse.held():
                report = self._guarded(self._resident.reconcile)
        except LockHeld:
            return False
        if report is None:
            self._calm.put_off(ids, self._clock(), TROUBLE_PAUSE)
        else:
            self._settle(report, everything=True)
        del report
        give_back()  # to look at everything takes two or three times of what is needed afterwards
        return True

    def in_turn(self, ids: Iterable[str]) -> tuple[list[str], list[str]]:
        """What is quick, and what is not; packages wait while somebody else works with dpkg, and so do services.

        An upgrade stops those, and starts them again when it is through.
        """
        quick: list[str] = []
        rest: list[str] = []
        for id in ids:
            (quick if _is_quick(id) else rest).append(id)
        dpkgs = [id for id in rest if id.startswith(("apt:", "service:"))]
        if dpkgs and any(holder(path) is not None for path in LOCKS[:2]):
            now = self._clock()
            self._calm.put_off(dpkgs, now, _APT_PAUSE - now % _APT_PAUSE)  # all come due together, packages first
            rest = [id for id in rest if id not in dpkgs]
        return quick, rest

    def some(self, ids: Collection[str], *, undo_removed: bool = False) -> None:
        """Look at these and put right what differs; later, where it cannot be done now."""
        try:
            if all(map(_is_quick, ids)) and not undo_removed:
                report = self._guarded(lambda: self._resident.repair(ids))
            else:
                with self._pulse.held():
                    report = self._guarded(lambda: self._resident.repair(ids, undo_removed=undo_removed))
        except LockHeld:
            report, pause = None, LOCK_PAUSE
        else:
            pause = TROUBLE_PAUSE
        if report is None:
            self._calm.put_off([*ids, *[REMOVED] * undo_removed], self._clock(), pause)
        else:
            self._settle(report)

    def _guarded(self, work: Callable[[], Report]) -> Report | None:
        """A round; None where the agent itself cannot work just now: journal, lock, disk."""
        try:
            report = work()
        except LockHeld:
            raise
        except (AgentError, OSError) as error:
            if self._state.trouble != str(error):
                self._teller.warn(f"nothing can be looked after; it is tried again every {TROUBLE_PAUSE:g} s: {error}")
            self._state.trouble = str(error)
            return None
        if self._state.trouble is not None:
            self._teller.info("what could not be looked after is looked after again")
        self._state.trouble = None
        return report

    def tell_of(self, step: Step) -> None:
        """A step ended; the same failure is told once."""
        known = self._state.row(step.id)
        again = known is not None and known["error"] == step.error
        if step.outcome in DONE or (step.outcome in (FAILED, BLOCKED) and not again):
            self._teller.step(step, self._resident.run)

    def _settle(self, report: Report, *, everything: bool = False) -> None:
        now = self._clock()
        in_vain = len(report.steps) <= _FEW and not any(step.outcome in DONE for step in report.steps)
        for step in report.steps:
            self._settle_step(step, now, in_vain=in_vain)
        for note in [note for note in report.notes if note not in self._state.notes]:
            self._teller.info(note)
        self._state.run = report.run or self._state.run
        self._state.looked(report, time.time(), everything=everything)
        for id in self._state.no_longer_blocked():
            self._calm.hasten(id, now)
        self._calm.touch(self._resident.left_owed, now)
        counts = ", ".join(f"{count} {outcome.replace('-', ' ')}" for outcome, count in self._state.summary.items())
        tell(f"STATUS={counts}; repairs: {self._state.repairs}")

    def _settle_step(self, step: Step, now: float, *, in_vain: bool) -> None:
        if step.outcome in (FAILED, BLOCKED):
            self._calm.failed(step.id, now, step.duration)
        elif step.outcome in DONE and step.cause == "drift":
            if self._calm.repaired(step.id, now):
                self._teller.warn(f"{step.id} is contested: somebody keeps changing it back")
        else:
            self._calm.settled(step.id)
            if in_vain and step.outcome == IN_DESIRED_STATE:
                self._calm.in_vain(step.id, now, step.duration)
            if step.outcome in PLANNED and not step.outside and self._state.row(step.id) is None:
                why = 'drift = "report"' if step.cause == "drift" else step.note
                self._teller.warn(f"{step.id} differs, and is only reported ({why})")


def _is_quick(id: str) -> bool:
    return id.partition(":")[0] in QUICK
