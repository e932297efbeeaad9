"""The resident agent: arms all sources, brings the host to its desired state, and keeps it there.

One thread and one wait. An event, a timer or a signal ends the wait; what they concern is looked at once `Calm` says
that it is time, in one round of the engine. The sources are armed before the first look, so nothing falls between.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from agent.engine import Places, Watcher
from agent.engine.resident import Resident
from agent.engine.step import Step
from agent.host.asking import Answering
from agent.host.systemd.supervisor import tell, tell_reloading
from agent.host.systemd.units import is_booting
from agent.watch.calm import Calm
from agent.watch.catalogs import LOG
from agent.watch.events import BLIND, SITE, Events
from agent.watch.folders import News
from agent.watch.rounds import LOCK_PAUSE, REMOVED, TROUBLE_PAUSE, Pulse, Rounds
from agent.watch.signals import Signals
from agent.watch.site import Load, Site
from agent.watch.state import State
from agent.watch.tell import Teller
from agent.watch.timers import Timers

SOCKET = "agent.sock"
_SETTLING = 0.1
"""Seconds for which the site's files have to be left alone before they are read: people save several."""
_LONGEST_SETTLING = 1.0
_LONGEST_BOOT = 60.0
"""Seconds for which a host that boots is left to start what it starts by itself."""
_BOOT_PAUSE = 0.3
_IDLE = 10.0
"""Seconds after which connections to databases are given up: who drops one must not find the agent in it."""


class Agent:
    """One site on one host, for as long as the process lives."""

    def __init__(
        self,
        load: Load,
        places: Places,
        teller: Teller,
        *,
        events: Events | None = None,
        calm: Calm | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._teller, self._clock, self._places = teller, clock, places
        self._calm = calm or Calm()
        self._events = events or Events()
        self._site = Site(load)
        self.state = State(lambda id: self._calm.is_contested(id, clock()), self._unlooked)
        self._pulse = Pulse(clock)
        watcher = Watcher(ended=self._ended, reads_again=self._reads_again)
        self._resident = Resident(self._site.desired, places, teller.info, watcher)
        self._events.own_writers = self._resident.writers
        self._rounds = Rounds(self._resident, self._calm, self.state, teller, self._pulse)
        self._timers = Timers((), 0.0)
        self._ids: set[str] = set()
        self._stopped = self._hangup = False
        self._told_troubles: dict[str, str] = {}
        self._problem = ""
        self._site_since: float | None = None
        self._blind_at = 0.0
        self._idle_at: float | None = None
        self._answering: Answering | None = None

    # From outside

    def stop(self) -> None:
        """End after the step in hand."""
        self._stopped = True
        self._resident.stop()

    def reread(self) -> None:
        """Read the site again, and look at everything."""
        self._hangup = True

    def run(self) -> None:
        """Stay until `stop`."""
        try:
            with Signals(self._events, self.stop, self.reread):
                self.begin()
                while not self._stopped:
                    self.turn()
        finally:
            tell("STOPPING=1")
            self.close()

    def close(self) -> None:
        """Listen and answer no more."""
        if self._answering is not None:
            self._answering.close()
        self._resident.close()
        self._events.close()

    def begin(self) -> None:
        """Arm everything, then bring everything to its desired state."""
        self._answering = Answering(self._places.run / SOCKET, self._answer)
        self._events.call(self._answering.fileno(), self._answering.serve)
        self.arm()
        tell("READY=1", "STATUS=Bringing the host to its desired state")
        self.state.history = self._resident.history()
        self._events.catalogs.changed()
        if "NOTIFY_SOCKET" in os.environ:
            self._let_boot()
        self._look_at_all()

    def _let_boot(self) -> None:
        """What the host has yet to start by itself is no drift."""
        limit = self._clock() + _LONGEST_BOOT
        while not self._stopped and self._clock() < limit and is_booting():
            self._pulse.beat()
            self._take(self._events.wait(_BOOT_PAUSE))

    def arm(self) -> None:
        """Watch what the site of now asks for, and look at what was touched before it was watched."""
        entries = self._site.desired.entries
        self._ids = {entry.id for entry in entries}
        self.state.use(entries, self._resident.places_in_order)
        self._timers = Timers(entries, self._clock())
        self._events.watch(entries, self._site.own())
        self._tell_troubles()
        if self._site.is_stale():
            self._take(News({SITE}))

    # One turn of the loop

    def turn(self) -> None:
        """Wait for something to do, and do it."""
        self._pulse.beat()
        self._take(self._events.wait(self._patience()))
        now = self._clock()
        if self._hangup:
            self._hangup = False
            tell_reloading()
            self._read_site()
            self._look_at_all()
            tell("READY=1")
        self._calm.touch(self._timers.take(now), now)
        if self._events.troubles and now >= self._blind_at:
            self._look_blindly(now)
        due = self._calm.take(now)
        if SITE in due:
            self._site_since = None
            self._read_site()
        elif self._site_since is not None:
            # What drifted from the old site may well be what the new one declares, and somebody applied.
            self._calm.put_off(due, now, _SETTLING / 4)
            return
        if REMOVED in due:
            self._rounds.some([], undo_removed=True)
        self._look_at({id for id in self._of_catalogs(due, now) if id in self._ids})

    def _unlooked(self) -> dict[str, float]:
        return {id: rest for id, rest in self._calm.unlooked(self._clock()).items() if id in self._ids}

    def _of_catalogs(self, due: list[str], now: float) -> Iterator[str]:
        """What is due, with the news of a cluster's log turned into whose catalogs changed."""
        catalogs = self._events.catalogs
        for key in due:
            if not key.startswith(LOG):
                yield key
            elif (rest := catalogs.rest(now)) > 0:
                self._calm.put_off([key], now, rest)
            else:
                self._idle_at = now + _IDLE
                yield from catalogs.changed(key)
        if self._idle_at is not None and now >= self._idle_at:
            self._idle_at = None
            catalogs.close()
            self._resident.release()

    def _look_at_all(self) -> None:
        while not self._stopped and not self._rounds.everything(self._ids):
            self._take(self._events.wait(LOCK_PAUSE))
            if self._site_since is not None:
                self._site_since = None
                self._read_site()
        self._idle_at = self._clock() + _IDLE

    def _look_at(self, ids: Iterable[str]) -> None:
        quick, rest = self._rounds.in_turn(ids)
        unseen = {id for id in self._events.blind() if self.state.row(id)}
        for each in (quick, rest):
            if each and not self._stopped:
                self._rounds.some(each)
        if any(self.state.row(id) is None for id in unseen):
            self._blind_at = 0.0  # what was missing is there, and so may its events be
        if any(id.startswith("postgres_") for id in rest):
            self._idle_at = self._clock() + _IDLE

    def _patience(self) -> float | None:
        moments = [self._calm.next_due(), self._timers.next_due(), self._idle_at, self._pulse.next_beat()]
        moments += [self._blind_at] if self._events.troubles else []
        earliest = min((moment for moment in moments if moment is not None), default=None)
        return None if earliest is None else max(0.0, earliest - self._clock())

    def _take(self, news: News, *, but: Iterable[str] = ()) -> None:
        now = self._clock()
        if news.overflow:
            self._teller.warn("more happened to files than the kernel could tell: everything is looked at")
            news.keys |= self._ids
        if SITE in news.keys:
            news.keys.discard(SITE)
            self._site_since = now if self._site_since is None else self._site_since
            self._calm.put_off([SITE], now, min(_SETTLING, max(0.0, self._site_since + _LONGEST_SETTLING - now)))
        self._calm.touch(news.keys.difference(but), now)

    def _reads_again(self, step: Step) -> None:
        """What happened up to now to a resource is seen by the reading that follows: its own writes wake nobody."""
        news = self._events.pending()
        if step.entry.resource.kind.startswith("postgres_"):
            news.keys |= self._events.catalogs.changed()
        self._take(news, but=[step.id])

    def _ended(self, step: Step) -> None:
        self._pulse.beat()
        self._rounds.tell_of(step)

    # The site

    def _read_site(self) -> None:
        try:
            changed = self._site.read_again()
        except OSError as error:
            self._teller.warn(f"the site cannot be read: {error}")
            self._calm.put_off([SITE], self._clock(), TROUBLE_PAUSE)
            return
        if self._site.problem is not None:
            if str(self._site.problem) != self._problem:
                self._problem = str(self._site.problem)
                self._teller.warn(f"the site is wrong, and its last good state stays in force: {self._problem}")
            self._events.watch(self._site.desired.entries, self._site.own())
            return
        self._problem = ""
        if changed is None:
            self._events.watch(self._site.desired.entries, self._site.own())  # a link may have taken a file's place
            return
        self._resident.use(self._site.desired)
        self.arm()
        changed.ids |= self._events.catalogs.changed() & self._ids
        self._calm.drop(changed.removed)
        self._teller.info(f"the site changed: to look at: {len(changed.ids)}, removed: {len(changed.removed)}")
        self._rounds.some(sorted(changed.ids), undo_removed=bool(changed.removed))

    def _look_blindly(self, now: float) -> None:
        """What a source would tell of that cannot be had is looked at now and then."""
        self._blind_at = now + BLIND
        self._calm.touch(self._events.blind() & self._ids, now)
        self._events.watch(self._site.desired.entries, self._site.own())
        self._tell_troubles()

    def _tell_troubles(self) -> None:
        for name, why in self._events.troubles.items():
            if name not in self._told_troubles:
                self._teller.warn(f"{name}: no events, so it is looked at every {BLIND:g} s: {why}")
        for name in self._told_troubles.keys() - self._events.troubles.keys():
            self._teller.info(f"{name}: events again")
        self._told_troubles = dict(self._events.troubles)

    def _answer(self, question: Any) -> tuple[dict[str, Any], Iterator[str]]:
        notes = [f"{name}: no events: {why}" for name, why in self._events.troubles.items()]
        if self._site.problem is not None:
            notes.append(f"the site is wrong, and its last good state is in force: {self._site.problem}")
        everything = bool(question.get("everything"))
        document = self.state.document(str(self._site.desired.site), notes)
        if self._site.problem is not None:
            document |= {"converged": False, "site_error": str(self._site.problem)}
        return document, self.state.rows(everything=everything)
