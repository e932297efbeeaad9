"""When to act: bursts are folded, and who fights over a resource meets with ever longer pauses.

Pure logic; the time is handed in, in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

FOLD = 0.005
"""Seconds that an event waits for those that come with it: an editor, a package manager, `rm -r`."""
LONGEST_FOLD = 0.05
FREE = 8
"""Repairs of one resource within `WINDOW` that are made at once; from then on it is contested."""
WINDOW = 60.0
FIRST_PAUSE = 0.5
_TRIES = 3
"""Failures in a row after which an event does not lead to another try at once: the failure may have caused it."""
_EAGER = 10.0
"""What an event leads to another try after then, or `_SHARE` times as long as the last one took."""
LONGEST_PAUSE = 300.0
VAIN = 8
"""Looks in a row, each within `_SOON` of the one before, that may find nothing before others have to wait."""
_SOON = 5.0
_NOISES = 1000
_SHARE = 50.0
"""From then on what took so long is not looked at for so many times as long: who writes without end costs little."""


@dataclass(slots=True)
class _Contest:
    """What is known of one resource: when it was repaired lately, and how long the next repair is put off."""

    repairs: deque[float] = field(default_factory=deque)
    failures: int = 0
    pause: float = 0.0
    last: float = 0.0
    took: float = 0.0

    def next_try(self) -> float:
        """When an event may lead to another look."""
        if not self.failures:
            return self.last + self.pause
        return self.last + min(self.pause, max(_EAGER, _SHARE * self.took)) if self.failures > _TRIES else 0.0


@dataclass(slots=True)
class _Noise:
    """Looks at one resource that found nothing, shortly one after the other."""

    count: int = 0
    last: float = 0.0
    rest_until: float = 0.0


class Calm:
    """Which resources are to be looked at, and when."""

    def __init__(self, free: int = FREE) -> None:
        self._free = free
        self._due: dict[str, float] = {}
        self._put_off: set[str] = set()
        self._since: float | None = None
        self._contests: dict[str, _Contest] = {}
        self._noises: dict[str, _Noise] = {}

    def touch(self, keys: Iterable[str], now: float) -> None:
        """An event concerned these."""
        for key in keys:
            contest = self._contests.get(key)
            earliest = contest.next_try() if contest is not None else 0.0
            noise = self._noises.get(key)
            earliest = max(earliest, noise.rest_until) if noise is not None else earliest
            due = max(now + FOLD, earliest)
            if earliest <= now:
                self._since = now if self._since is None else self._since
                due = min(due, self._since + LONGEST_FOLD)
            if earliest > now:
                known = self._due.get(key, due)
                due = min(known, due) if contest is not None and contest.failures else max(known, due)
            self._due[key] = due

    def put_off(self, keys: Iterable[str], now: float, pause: float) -> None:
        """Look at these later, whatever happens meanwhile."""
        for key in keys:
            self._due[key] = now + pause
            self._put_off.add(key)

    def next_due(self) -> float | None:
        """When the first of them is due."""
        return min(self._due.values(), default=None)

    def take(self, now: float) -> list[str]:
        """Those that are due."""
        due = [key for key, when in self._due.items() if when <= now]
        for key in due:
            del self._due[key]
        self._put_off.difference_update(due)
        if not any(when <= now + LONGEST_FOLD for when in self._due.values()):
            self._since = None
        return due

    def drop(self, keys: Iterable[str]) -> None:
        """These are no longer declared."""
        for key in keys:
            self._due.pop(key, None)
            self._put_off.discard(key)
            self._contests.pop(key, None)
            self._noises.pop(key, None)

    def repaired(self, key: str, now: float) -> bool:
        """It was put right; gives whether it is contested from now on, and was not before."""
        self._noises.pop(key, None)
        contest = self._contests.setdefault(key, _Contest())
        if contest.failures or self._is_over(contest, now):
            contest.repairs.clear()
            contest.failures, contest.pause = 0, 0.0
        while contest.repairs and contest.repairs[0] <= now - WINDOW:
            contest.repairs.popleft()
        contest.repairs.append(now)
        contest.last = now
        if contest.pause == 0.0 and len(contest.repairs) <= self._free:
            return False
        begins = contest.pause == 0.0
        contest.pause = min(LONGEST_PAUSE, contest.pause * 2 or FIRST_PAUSE)
        return begins

    @staticmethod
    def _is_over(contest: _Contest, now: float) -> bool:
        return now - contest.last > max(WINDOW, 4 * contest.pause)

    def failed(self, key: str, now: float, took: float = 0.0) -> float:
        """It could not be put right in so many seconds; gives those after which it is tried again."""
        contest = self._contests.setdefault(key, _Contest())
        contest.failures += 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(contest.failures - 1, 20))
        contest.last, contest.pause, contest.took = now, pause, took
        self._due[key] = now + pause
        return pause

    def hasten(self, key: str, now: float) -> None:
        """What it waited for is there: try it now."""
        self._contests.pop(key, None)
        self._due[key] = now

    def settled(self, key: str) -> None:
        """It was found in its desired state: what failed before is forgotten."""
        contest = self._contests.get(key)
        if contest is not None and contest.failures:
            contest.failures, contest.pause = 0, 0.0

    def in_vain(self, key: str, now: float, took: float) -> None:
        """A look at it that took so long found nothing."""
        if len(self._noises) > _NOISES:
            self._noises = {key: noise for key, noise in self._noises.items() if now - noise.last <= _SOON}
        noise = self._noises.setdefault(key, _Noise())
        noise.count = noise.count + 1 if now - noise.last <= _SOON else 1
        noise.last = now
        noise.rest_until = now + _SHARE * took if noise.count > VAIN else 0.0

    def is_contested(self, key: str, now: float) -> bool:
        """Whether somebody else keeps changing it back."""
        contest = self._contests.get(key)
        if contest is None or contest.failures or contest.pause == 0.0:
            return False
        return not self._is_over(contest, now)

    def unlooked(self, now: float) -> dict[str, float]:
        """What something happened to since the last look that waits for the next one, with the seconds until then.

        That is what is contested, and what was put off.
        """
        waiting = self._put_off | {key for key in self._contests if self.is_contested(key, now)}
        return {key: when - now for key in waiting if (when := self._due.get(key))}
