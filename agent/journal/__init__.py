"""The journal: what each run did and why, what is owed, what the agent last set; and the backups.

An intent is on the disk before the change is made, so that a run which is killed at any instant leaves behind what it
was about to do. The outcome of a change is written together with the intent of the next one; a run cut off between the
two is found as "cut off", and repeating is harmless.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import JournalError
from agent.journal.backups import Backups
from agent.journal.database import Database
from agent.journal.rolling import Memory, Rolling
from agent.journal.values import Digests, blobs_in, kept, put_together, secrets_in, shown, veiled
from agent.resource import AttributeChange, State

__all__ = ["Intent", "Journal", "Memory", "shown", "veiled"]

_KEPT_RUNS = 400
_DIFF_LIMIT = 64 * 1024
_KNOWN = "site <> '' AND last_set IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Intent:
    """A change about to be made; `owes` are the listeners to refresh because of it.

    `memory` says how the resource is declared: a run that is killed right after the change leaves behind whose it was.
    """

    resource: str
    source: str
    action: str
    cause: str
    before: State | None = None
    attributes: Sequence[AttributeChange] = ()
    diff: str | None = None
    temporaries: Sequence[str] = ()
    owes: Sequence[str] = ()
    memory: Memory | None = None


class Journal:
    """The journal and the backups in one root-only folder."""

    def __init__(self, folder: Path, *, write: bool) -> None:
        self.folder = folder
        self.backups = Backups(folder / "backups")
        if write:
            self.backups.make_folder()
        self._digests = Digests(folder / "key", write=write)
        self._db = Database(folder / "journal.sqlite", write=write)
        self.rolling = Rolling(self._db)

    @classmethod
    def to_read(cls, folder: Path) -> Journal | None:
        """The journal of a folder, None where nothing was applied yet or it is not ours to read.

        Raises JournalError where it is damaged.
        """
        if not os.access(folder / "journal.sqlite", os.R_OK):
            return None
        journal = cls(folder, write=False)
        if journal._db.is_new:
            journal.close()
            return None
        return journal

    def close(self) -> None:
        """Write what is left and close."""
        self._db.close()

    def flush(self) -> None:
        """Put on the disk what was written since the last intent."""
        self._db.commit()

    # Runs

    def begin(self, mode: str, site: Path, *, flush: bool = True) -> int:
        """A new run; gives its number. Only while the lock is held: a run that is still open was cut off.

        Without `flush` it is on the disk with its first intent.
        """
        self._db.write("UPDATE run SET outcome = 'cut off' WHERE outcome = 'running'")
        row = self._db.write(
            "INSERT INTO run (started, mode, site, pid, outcome) VALUES (?, ?, ?, ?, 'running')",
            (time.time(), mode, str(site), os.getpid()),
        )
        if flush:
            self._db.commit()
        return int(row.lastrowid or 0)

    def end(self, run: int, outcome: str, summary: Mapping[str, int]) -> None:
        """The end of a run, and of what is too old to be kept."""
        self._db.write(
            "UPDATE run SET ended = ?, outcome = ?, summary = ? WHERE id = ?",
            (time.time(), outcome, json.dumps(summary), run),
        )
        self._prune()
        self._db.commit()

    def forget_run(self, run: int) -> None:
        """Leave nothing of a run that came to the same as one before; not where it owes anything."""
        if not self._db.rows("SELECT 1 FROM owed WHERE run = ?", (run,)):
            self._db.write("DELETE FROM change WHERE run = ?", (run,))
            self._db.write("DELETE FROM run WHERE id = ?", (run,))
            self._db.commit()

    def _prune(self) -> None:
        """Keep the last runs that did something, and as many of those that had nothing to do."""
        busy = "EXISTS (SELECT 1 FROM change WHERE change.run = run.id)"
        newest = "SELECT id FROM run WHERE {} ORDER BY id DESC LIMIT ?"
        gone = self._db.write(
            f"DELETE FROM run WHERE id NOT IN ({newest.format(busy)}) AND id NOT IN ({newest.format('NOT ' + busy)})",
            (_KEPT_RUNS, _KEPT_RUNS),
        ).rowcount
        if gone and self._db.write("DELETE FROM change WHERE run NOT IN (SELECT id FROM run)").rowcount:
            self._db.write("DELETE FROM resource WHERE site = '' AND id NOT IN (SELECT resource FROM change)")
            texts = self._db.rows("SELECT before FROM change UNION SELECT original FROM resource")
            self.backups.drop_all_but(set().union(*(blobs_in(text) for (text,) in texts)))

    def leftovers(self) -> list[str]:
        """Temporaries of changes that were cut off; afterwards these changes count as looked after."""
        rows = self._db.rows("SELECT temporaries FROM change WHERE outcome = 'intended'")
        self._db.write("UPDATE change SET outcome = 'cut off' WHERE outcome = 'intended'")
        return [path for (text,) in rows for path in json.loads(text)]

    # Changes

    def intend(self, run: int, intents: Sequence[Intent]) -> list[int]:
        """Write down what is about to be done, and what will be owed for it, before it is done."""
        numbers = [self._insert(run, intent, "intended") for intent in intents]
        for intent in intents:
            if intent.memory is not None:
                self._remember(intent.resource, intent.memory, _json(kept(intent.before, self.backups)))
        self._db.write_all(
            "INSERT OR IGNORE INTO owed VALUES (?, ?, ?)",
            [(listener, intent.resource, run) for intent in intents for listener in intent.owes],
        )
        self._db.commit()
        return numbers

    def failed(self, run: int, intent: Intent, error: str, duration: float) -> None:
        """Write down what went wrong where nothing was about to be changed: a reading, an acceptance check."""
        self.outcome(self._insert(run, intent, "failed"), "failed", duration, error)

    def _insert(self, run: int, intent: Intent, outcome: str) -> int:
        attributes = [[each.attribute, shown(each.actual), shown(each.desired)] for each in intent.attributes]
        row = self._db.write(
            "INSERT INTO change (run, resource, source, action, cause, outcome, started, before, attributes, diff,"
            " temporaries) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                run,
                intent.resource,
                intent.source,
                intent.action,
                intent.cause,
                outcome,
                time.time(),
                _json(kept(intent.before, self.backups)),
                _json(attributes),
                intent.diff[:_DIFF_LIMIT].encode("utf-8", "backslashreplace").decode() if intent.diff else None,
                _json(list(intent.temporaries)),
            ),
        )
        return int(row.lastrowid or 0)

    def outcome(self, number: int, outcome: str, duration: float, error: str | None = None) -> None:
        """How a change ended; on the disk with the next intent, or at the end of the run."""
        self._db.write(
            "UPDATE change SET outcome = ?, duration = ?, error = ? WHERE id = ?",
            (outcome, duration, error and error.encode("utf-8", "backslashreplace").decode(), number),
        )

    def secrets_of(self, text: str | None) -> set[str]:
        """The attributes of a state that was kept whose values were secret, and so were not."""
        return secrets_in(text)

    def state_before(self, text: str | None) -> State | None:
        """A state that the journal kept, with its contents from the backups. Secrets are missing in it."""
        return put_together(text, self.backups)

    # Refreshes owed

    def owed(self) -> dict[str, list[str]]:
        """Listeners that are still to be refreshed, with the ids of what was changed."""
        found: dict[str, list[str]] = {}
        for listener, cause in self._db.rows("SELECT listener, cause FROM owed ORDER BY run, cause"):
            found.setdefault(listener, []).append(cause)
        return found

    def strike_off(self, listener: str) -> None:
        """A refresh that was owed has been done."""
        self._db.write("DELETE FROM owed WHERE listener = ?", (listener,))

    def owe_not(self, cause: str, run: int) -> None:
        """Nothing is owed for what this run was about to change, and found unchanged after it had failed."""
        self._db.write("DELETE FROM owed WHERE cause = ? AND run = ?", (cause, run))

    def owed_by(self, site: Path) -> set[str]:
        """Listeners whose refreshes runs of this site owe."""
        query = "SELECT DISTINCT listener FROM owed JOIN run ON run.id = owed.run WHERE run.site = ?"
        return {listener for (listener,) in self._db.rows(query, (str(site),))}

    def forget_owed(self, listeners: Iterable[str]) -> None:
        """Refreshes owed to what is no longer declared."""
        self._db.write_all("DELETE FROM owed WHERE listener = ?", [(listener,) for listener in listeners])

    # What the agent last set

    def last_set(self, id: str) -> dict[str, Any] | None:
        """The state that a resource was last set to or found in, as `comparable` gives it; None if never."""
        rows = self._db.rows(f"SELECT last_set FROM resource WHERE id = ? AND {_KNOWN}", (id,))
        return (json.loads(rows[0][0]) or {}) if rows else None

    def was_set_to(self, id: str, state: State | None) -> bool | None:
        """Whether this is the state it was last set to; None where it was never set."""
        rows = self._db.rows(f"SELECT last_set FROM resource WHERE id = ? AND {_KNOWN}", (id,))
        return bool(rows[0][0] == self.comparable(state)) if rows else None

    def comparable(self, state: State | None) -> str:
        """A state as text that is equal for equal states: contents as digests, secrets as keyed digests."""
        return self._digests.comparable(state)

    def record(self, id: str, memory: Memory) -> None:
        """A resource is now in this state; what it was before the agent's first change is kept."""
        original = self._db.rows(
            "SELECT before FROM change WHERE resource = ? AND action IN ('add', 'change', 'remove')"
            " AND id > coalesce((SELECT value FROM meta WHERE key = ?), 0) ORDER BY id LIMIT 1",
            (id, f"undone:{id}"),
        )
        self._db.write("DELETE FROM meta WHERE key = ?", (f"held:{id}",))
        self._remember(id, memory, original[0][0] if original else None)

    def _remember(self, id: str, memory: Memory, original: str | None) -> None:
        """Whose a resource is; without `last_set` what it was last set to stays."""
        self._db.write("DELETE FROM resource WHERE id = ? AND site = ''", (id,))
        self._db.write(
            "INSERT INTO resource (id, site, source, kind, declared, on_removal, last_set, original)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET site = excluded.site,"
            " source = excluded.source, last_set = coalesce(excluded.last_set, last_set),"
            " original = coalesce(original, excluded.original),"
            " declared = excluded.declared, on_removal = excluded.on_removal, told = 0",
            (
                id, memory.site, memory.source, memory.kind, memory.declared, memory.on_removal, memory.last_set,
                original,
            ),
        )  # fmt: skip

    def memories(self) -> dict[str, Memory]:
        """What is remembered of all resources, by id; not of those whose removal the user was told of."""
        columns = "id, site, source, kind, declared, on_removal, last_set"
        return {id: Memory(*rest) for id, *rest in self._db.rows(f"SELECT {columns} FROM resource WHERE told = 0")}

    def removed(self, site: Path, declared: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Rows of resources of this site that are no longer declared, the first recorded first."""
        known = set(declared)
        for (id,) in self._db.rows("SELECT id FROM resource WHERE site = ? ORDER BY rowid", (str(site),)):
            if id not in known:
                yield from self._db.tables("SELECT * FROM resource WHERE id = ?", (id,))

    def told(self, id: str) -> None:
        """The user was told that a resource is no longer declared and was left alone."""
        self._db.write("UPDATE resource SET told = 1 WHERE id = ?", (id,))

    def forget(self, id: str) -> None:
        """A resource that was undone: should it be declared again, its history begins anew.

        It belongs to no site any more; how it was declared is kept for a rollback.
        """
        self._db.write(
            "INSERT OR REPLACE INTO meta SELECT ?, max(id) FROM change WHERE resource = ?", (f"undone:{id}", id)
        )
        self._db.write("UPDATE resource SET site = '', original = NULL, told = 1, last_set = NULL WHERE id = ?", (id,))
        self._db.write("DELETE FROM meta WHERE key = ?", (f"held:{id}",))

    def meta(self, key: str) -> str | None:
        """A note of the engine's own."""
        rows = self._db.rows("SELECT value FROM meta WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    def set_meta(self, key: str, value: str) -> None:
        """Keep a note of the engine's own."""
        self._db.write(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )

    # Reading back

    def runs(self, limit: int = 50) -> list[dict[str, Any]]:
        """The last runs, newest first."""
        return self._db.tables("SELECT * FROM run ORDER BY id DESC LIMIT ?", (limit,))

    def run(self, number: int) -> dict[str, Any] | None:
        """One run, or None."""
        rows = self._db.tables("SELECT * FROM run WHERE id = ?", (number,))
        return rows[0] if rows else None

    def changes(self, run: int) -> list[dict[str, Any]]:
        """The changes of a run in their order."""
        return self._db.tables("SELECT * FROM change WHERE run = ? ORDER BY id", (run,))

    def repairs(self) -> dict[str, dict[str, Any]]:
        """By resource: how often drift was repaired, and when it was last seen."""
        rows = self._db.rows(
            "SELECT resource, count(*) FILTER (WHERE outcome = 'done'), max(started) FROM change"
            " WHERE cause = 'drift' GROUP BY resource"
        )
        return {id: {"repairs": count, "last_drift": last} for id, count, last in rows}


def _json(value: Any) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise JournalError(f"a state cannot be written to the journal: {error}") from None
