"""The dependency graph: implied requirements, the order, cycles."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.resource import Resource

_PLACES = ("directory", "link", "gocryptfs", "keyring")
"""Kinds that what lies below their path needs."""


@dataclass(slots=True)
class Entry:
    """A resource in the graph: where it is declared, and the ids of all that it requires.

    `implied` holds those of `requires` that no declaration names, `source` is `file:line`.
    """

    resource: Resource
    state: str
    source: str
    requires: list[str]
    implied: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The id of its resource."""
        return self.resource.id


class Graph:
    """Entries by id, with their edges: from each to what it requires."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = {entry.id: entry for entry in entries}
        self._edges = {entry.id: dict.fromkeys(entry.requires) for entry in entries}
        self._needed = {needed for requires in self._edges.values() for needed in requires}

    def imply(self) -> None:
        """Add the implied requirements, the surer ones first; one that would close a circle is left out.

        Declared users, groups and parent places come first, then what a kind needs of its own state. There must be no
        cycles yet.
        """
        places = _places(self.entries.values())
        for entry in self.entries.values():
            for needed in entry.resource.implied_requires():
                self._add(entry.id, needed)
            for path in entry.resource.paths():
                self._imply_places(entry, path, places)
        self._imply_by_state()
        for entry in self.entries.values():
            named = set(entry.requires)
            entry.implied = tuple(needed for needed in self._edges[entry.id] if needed not in named)
            entry.requires = list(self._edges[entry.id])

    def _imply_places(self, entry: Entry, path: str, places: Mapping[str, Sequence[Entry]]) -> None:
        for place in places.get(path, ()):
            if entry.resource.kind == "gocryptfs":  # that directory is the one to be seen there: the root of the mount
                self._add(place.id, entry.id)
        while path != "/":
            path = path.rpartition("/")[0] or "/"
            for place in places.get(path, ()):
                if _goes(place) and _goes(entry):  # a directory can only go once it is empty
                    self._add(place.id, entry.id)
                else:
                    self._add(entry.id, place.id)
                    self._imply_target(entry, place, places)

    def _imply_target(self, entry: Entry, link: Entry, places: Mapping[str, Sequence[Entry]]) -> None:
        """What lies below a link lies in what the link points to, which may be a link as well."""
        seen = {link.id}
        targets = list(places.get(link.resource.leads_to(), ()))
        while targets:
            place = targets.pop()
            if place.id not in seen and not _goes(place):
                seen.add(place.id)
                self._add(entry.id, place.id)
                targets += places.get(place.resource.leads_to(), ())

    def _imply_by_state(self) -> None:
        by_state: dict[tuple[str, str], list[str]] = defaultdict(list)
        for entry in self.entries.values():
            by_state[entry.state, entry.resource.kind].append(entry.id)
        for kinds in (True, False):  # packages first: they are what all others stand on
            for entry in self.entries.values():
                for kind in entry.resource.needs_of_state:
                    if (kind in ("apt", "apt_source")) is kinds:
                        for needed in by_state.get((entry.state, kind), ()):
                            self._add(entry.id, needed)

    def _add(self, id: str, needed: str) -> None:
        if needed in self._edges and needed != id and needed not in self._edges[id] and not self._reaches(needed, id):
            self._edges[id][needed] = None
            self._needed.add(needed)

    def _reaches(self, start: str, goal: str) -> bool:
        if goal not in self._needed or not self._edges[start]:
            return False
        seen, stack = {start}, [start]
        while stack:
            for needed in self._edges[stack.pop()]:
                if needed == goal:
                    return True
                if needed not in seen and self._edges.get(needed):
                    seen.add(needed)
                    stack.append(needed)
        return False

    def cycles(self) -> list[list[str]]:
        """Requirements in a circle, each as ids of which the last is the first again; one circle of every knot."""
        found: list[list[str]] = []
        done: set[str] = set()
        for id in self._edges:
            if id not in done:
                found += self._cycles_from(id, done)
        apart: list[list[str]] = []
        for cycle in found:
            if all(set(cycle).isdisjoint(other) for other in apart):
                apart.append(cycle)
        return apart

    def _cycles_from(self, start: str, done: set[str]) -> Iterator[list[str]]:
        path: dict[str, Iterator[str]] = {start: iter(self._edges[start])}
        while path:
            current = next(reversed(path))
            needed = next(path[current], None)
            if needed is None:
                path.popitem()
                done.add(current)
            elif needed in path:
                names = list(path)
                yield [*names[names.index(needed) :], needed]
            elif needed not in done:
                path[needed] = iter(self._edges.get(needed, ()))

    def in_order(self) -> list[Entry]:
        """The entries with requirements first, else in the order of declaration."""
        position = {id: i for i, id in enumerate(self.entries)}
        ids = list(self.entries)
        waiting = {id: len(needed) for id, needed in self._edges.items()}
        dependents: dict[str, list[str]] = defaultdict(list)
        for id, needed in self._edges.items():
            for other in needed:
                dependents[other].append(id)
        ready = [position[id] for id, count in waiting.items() if not count]
        heapq.heapify(ready)
        ordered = []
        while ready:
            id = ids[heapq.heappop(ready)]
            ordered.append(self.entries[id])
            for other in dependents[id]:
                waiting[other] -= 1
                if not waiting[other]:
                    heapq.heappush(ready, position[other])
        return ordered


def _places(entries: Iterable[Entry]) -> Mapping[str, Sequence[Entry]]:
    """What stands at each path that others can lie in; a mount after the directory that it covers."""
    found: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda each: each.resource.kind == "gocryptfs"):
        if entry.resource.kind in _PLACES:
            for path in entry.resource.paths():
                found[path].append(entry)
    return found


def _goes(entry: Entry) -> bool:
    return getattr(entry.resource, "ensure", "present") == "absent"


def with_requirements(entries: Sequence[Entry], ids: Iterable[str]) -> set[str]:
    """These ids and all that they need, directly or not."""
    by_id = {entry.id: entry for entry in entries}
    found: set[str] = set()
    stack = list(ids)
    while stack:
        id = stack.pop()
        if id not in found:
            found.add(id)
            stack.extend(by_id[id].requires)
    return found
