"""When each resource is read again though nothing was told: `check_every`, or what its kind does by default."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from agent.fields import seconds
from agent.graph import Entry


class Timers:
    """Resources in groups of one period each: as many wake-ups as there are periods."""

    def __init__(self, entries: Iterable[Entry], now: float) -> None:
        self._groups: dict[float, list[str]] = {}
        for entry in entries:
            every = seconds(entry.resource.check_every or entry.resource.looks_every)
            self._groups.setdefault(max(every, 1.0), []).append(entry.id)
        self._queue = [(now + every, every) for every in self._groups]
        heapq.heapify(self._queue)

    def next_due(self) -> float | None:
        """When the first of them is due."""
        return self._queue[0][0] if self._queue else None

    def take(self, now: float) -> list[str]:
        """Those that are due; their next turn begins now."""
        found: list[str] = []
        while self._queue and self._queue[0][0] <= now:
            every = self._queue[0][1]
            heapq.heapreplace(self._queue, (now + every, every))
            found += self._groups[every]
        return found
