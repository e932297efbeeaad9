"""What the journal knows of a resource that was changed since a run: its state before, and what was last made of it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.journal import Journal
from agent.resource import State
from agent.secret import REDACTED


@dataclass(frozen=True)
class Before:
    """A state as it was kept; `secrets` are the attributes whose values were not."""

    state: State | None
    secrets: frozenset[str] = frozenset()


class Changed:
    """A resource that was changed; `rows` are its changes in the journal, the first one first."""

    def __init__(self, id: str, rows: Sequence[Mapping[str, Any]], journal: Journal) -> None:
        self.id = id
        self.first: int = rows[0]["id"]
        self.last: int = rows[-1]["id"]
        self.source: str = rows[-1]["source"]
        self.touched = frozenset(name for row in rows for name in _values(row))
        """The attributes that were changed: what else differs by now is not these runs' doing."""
        self._rows = rows
        self._journal = journal

    def before(self) -> Before:
        """The state before the first of its changes. Raises OSError where a content of it is gone.

        How it is declared decides what is read of it, so an attribute may show in the state before a later change only.
        """
        text = self._rows[0]["before"]
        first = self._journal.state_before(text)
        if first is None:
            return Before(None)
        state, secrets, known = dict(first), self._journal.secrets_of(text), set(_values(self._rows[0]))
        for row in self._rows[1:]:
            later = self._journal.state_before(row["before"]) or {}
            new = {name for name in later if name not in state} - known - secrets
            state |= {name: later[name] for name in new}
            secrets |= self._journal.secrets_of(row["before"]) - known - state.keys()
            known |= _values(row).keys()
        return Before(state, frozenset(secrets))

    def target(self, actual: State | None, before: Before, *, whole: bool) -> State | None:
        """What to go back to: the actual state with what was changed as it was before; secrets stay as they are.

        A secret that stays is not opened to anybody who may not read it now. With `whole` it is the whole state before.
        """
        if before.state is None or actual is None or whole:
            return before.state
        kept = {name: value for name, value in actual.items() if name not in self.touched or name in before.secrets}
        found = {**before.state, **kept}
        return _as_closed(actual, found) if before.secrets & self.touched else found

    def edited(self, actual: State | None, ignored: Collection[str]) -> list[str]:
        """In which attributes it differs from all that the agent may have left; `existence` where it came or went."""
        latest = self._journal.rolling.latest(self.id) or self._rows[-1]
        memory = self._journal.rolling.remembered(self.id)
        known = memory is not None and memory.last_set is not None
        last = json.loads(memory.last_set) if memory is not None and memory.last_set is not None else None
        finished = latest["outcome"] == "done"
        now = json.loads(self._journal.comparable(actual))
        if finished:
            there = last is not None if known else latest["action"] != "remove"
            if (now is not None) != there:
                return ["existence"]
        return [
            name
            for name in sorted(self.touched.difference(ignored))
            if now is not None and not _is_one_of(now.get(name), _left(name, last, _values(latest), finished))
        ]


def _left(name: str, last: Mapping[str, Any] | None, latest: Mapping[str, Any], finished: bool) -> list[Any]:
    """The values of an attribute that the agent may have left; a change that was cut off may have come to either."""
    found = [last[name]] if last is not None and name in last else []
    if name in latest and (not found or not finished):
        found += latest[name][1:] if finished else latest[name]
    return found


def _is_one_of(value: Any, values: Sequence[Any]) -> bool:
    return not values or REDACTED in values or value in values


def _values(row: Mapping[str, Any]) -> dict[str, list[Any]]:
    """By attribute, the actual and the desired value of a change."""
    return {name: [actual, desired] for name, actual, desired in json.loads(row["attributes"])}


def changed_since(journal: Journal, run: int, site: Path) -> list[Changed]:
    """All resources that this run of the site, and later ones, changed."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for row in journal.rolling.changes_since(run, site):
        rows.setdefault(row["resource"], []).append(row)
    return [Changed(id, its, journal) for id, its in rows.items()]


def _as_closed(actual: State, target: State) -> State:
    """The target with an owner, group and mode that let nobody in who is kept out now."""
    closed = {**target, **{name: actual[name] for name in ("owner", "group") if name in actual}}
    if isinstance(actual.get("mode"), str) and isinstance(target.get("mode"), str):
        closed["mode"] = f"{int(actual['mode'], 8) & int(target['mode'], 8):04o}"
    return closed
