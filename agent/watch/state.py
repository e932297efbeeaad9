"""What the resident agent knows of every resource, for `agent status` and the metrics."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

from agent.engine import Report
from agent.engine.step import BLOCKED, DONE, IN_DESIRED_STATE, UNKNOWN, Step
from agent.graph import Entry
from agent.report.json import row
from agent.report.plain import VERSION


class State:
    """Only what is not in its desired state has a row; of all others it is enough when they were looked at.

    `contested` tells whether a resource is; `unlooked` gives those that something happened to since they were last
    looked at, with the seconds until they are looked at again.
    """

    def __init__(
        self, contested: Callable[[str], bool], unlooked: Callable[[], Mapping[str, float]] = lambda: {}
    ) -> None:
        self._contested, self._unlooked = contested, unlooked
        self._entries: Sequence[Entry] = ()
        self._places: Mapping[str, int] = {}
        self._rows: dict[str, dict[str, Any]] = {}
        self._checked: dict[str, float] = {}
        self._notes: dict[str, list[str]] = {}
        self._all_checked = 0.0
        self.history: dict[str, dict[str, Any]] = {}
        self.repairs = 0
        self.rounds = 0
        self.run: int | None = None
        self.trouble: str | None = None
        """Why the last round could not be made."""
        self.changed: Callable[[State, float], None] = lambda _state, _seconds: None
        """Told after each round, with the seconds that it took."""

    def use(self, entries: Sequence[Entry], places: Mapping[str, int]) -> None:
        """From now on these are all there are; `places` has by id the place of each among them."""
        self._entries, self._places = entries, places
        for about in (self._rows, self._notes):
            for id in [id for id in about if id not in places]:
                del about[id]

    def looked(self, report: Report, now: float, *, everything: bool = False) -> None:
        """These were looked at, and put right where the outcome says so."""
        self.rounds += 1
        if everything:
            self._checked.clear()
            self._all_checked = now
        for step in report.steps:
            self._notes.pop(step.id, None)
            if step.notes:
                self._notes[step.id] = step.notes
            if not everything:
                self._checked[step.id] = now
            if step.cause == "drift" and step.outcome != IN_DESIRED_STATE:
                self._note_drift(step, now)
            if step.outcome == IN_DESIRED_STATE or step.outcome in DONE:
                self._rows.pop(step.id, None)
            else:
                self._rows[step.id] = row(step)
        self.changed(self, report.duration)

    def _note_drift(self, step: Step, now: float) -> None:
        known = self.history.setdefault(step.id, {"repairs": 0, "last_drift": None})
        known["last_drift"] = now
        if step.outcome in DONE:
            known["repairs"] += 1
            self.repairs += 1

    def row(self, id: str) -> Mapping[str, Any] | None:
        """What is wrong with a resource; None where nothing is."""
        return self._rows.get(id)

    @property
    def notes(self) -> list[str]:
        """What somebody ought to know of resources though nothing is wrong with them, such as keys that soon expire."""
        return [note for notes in self._notes.values() for note in notes]

    def no_longer_blocked(self) -> list[str]:
        """What was not done because something failed that has not failed any more."""
        blocked = [id for id, each in self._rows.items() if each["outcome"] == BLOCKED]
        return [id for id in blocked if not any(other in self._rows for other in self._rows[id]["blocked_by"])]

    @property
    def last_full_check(self) -> float:
        """When everything was looked at in one go, in seconds since the epoch."""
        return self._all_checked

    @property
    def summary(self) -> dict[str, int]:
        """How many resources have each outcome."""
        counts = Counter(each["outcome"] for each in self._rows.values())
        counts[UNKNOWN] += len(self._unlooked().keys() - self._rows.keys())
        counts[IN_DESIRED_STATE] += len(self._entries) - counts.total()
        return dict(+counts)

    def document(self, site: str, notes: Sequence[str]) -> dict[str, Any]:
        """What `agent status --json` shows, without the rows of resources."""
        return {
            "version": VERSION,
            "mode": "status",
            "site": site,
            "run": self.run,
            "converged": not self._rows and not self._unlooked() and self.trouble is None,
            "resources": [],
            "summary": self.summary,
            "notes": [*notes, *self.notes],
            "trouble": self.trouble,
            "site_error": None,
            "last_full_check": self._all_checked,
            "rounds": self.rounds,
        }

    def rows(self, *, everything: bool) -> Iterator[str]:
        """The row of each resource as JSON; only those of what differs or was repaired unless `everything`."""
        unlooked = self._unlooked()
        special = {id for id in (*self._rows, *self.history, *unlooked) if id in self._places}
        if not everything:
            told = sorted(self._places[id] for id in special)
            yield from (self._text(self._entries[place], unlooked) for place in told)
            return
        alike = _Alike()
        for id, place in self._places.items():
            entry = self._entries[place]
            if id in special:
                yield self._text(entry, unlooked)
            else:
                yield alike.text(id, entry, self._checked.get(id, self._all_checked))

    def _text(self, entry: Entry, unlooked: Mapping[str, float]) -> str:
        return json.dumps(self._row(entry, unlooked.get(entry.id)), default=str)

    def _row(self, entry: Entry, rest: float | None) -> dict[str, Any]:
        known = self.history.get(entry.id, {})
        step = Step(entry)
        if rest is not None:
            step.outcome, step.note = UNKNOWN, f"something happened to it; it is looked at in {max(rest, 0):.0f} s"
        return {
            **(self._rows.get(entry.id) or row(step)),
            "last_checked": self._checked.get(entry.id, self._all_checked),
            "last_drift": known.get("last_drift"),
            "repairs": known.get("repairs", 0),
            "contested": self._contested(entry.id),
        }


class _Alike:
    """Rows of what was always in its desired state: they differ in few words, and may be ten thousands."""

    def __init__(self) -> None:
        self._checked, self._rest = -1.0, ""

    def text(self, id: str, entry: Entry, checked: float) -> str:
        """The row of a resource that was looked at then."""
        if checked != self._checked:
            same = row(Step(entry)) | {"last_checked": checked, "last_drift": None, "repairs": 0, "contested": False}
            for key in ("id", "state", "source"):
                del same[key]
            self._checked, self._rest = checked, json.dumps(same)[1:]
        words = f'"id": {_quoted(id)}, "state": {_quoted(entry.state)}, "source": {_quoted(entry.source)}'
        return f"{{{words}, {self._rest}"
