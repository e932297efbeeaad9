"""The journal: what each run did and why, what is owed, what the agent last set; and the backups.

SQLite in WAL mode: an intent is on the disk before the change is made, so that a run which is killed at any instant leaves
behind what it was about to do. The outcome of a change is written together with the intent of the next one; a run
cut off between the two is found as "cut off", and repeating is harmless.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import JournalError
from agent.resource import AttributeChange, State
from agent.secret import REDACTED, Secret

_KEPT_RUNS = 400
_DIFF_LIMIT = 64 * 1024
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE run (id INTEGER PRIMARY KEY AUTOINCREMENT, started REAL, ended REAL, mode TEXT, site TEXT, pid INTEGER,
                  outcome TEXT, summary TEXT);
CREATE TABLE change (id INTEGER PRIMARY KEY, run INTEGER, resource TEXT, source TEXT, action TEXT, cause TEXT,
                     outcome TEXT, started REAL, duration REAL, before TEXT, attributes TEXT, diff TEXT, error TEXT,
                     temporaries TEXT);
CREATE INDEX change_run ON change (run);
CREATE TABLE owed (listener TEXT, cause TEXT, run INTEGER, PRIMARY KEY (listener, cause));
CREATE TABLE resource (id TEXT PRIMARY KEY, site TEXT, source TEXT, last_set TEXT, original TEXT, kind TEXT,
                       declared TEXT, on_removal TEXT, told INTEGER DEFAULT 0);
CREATE TABLE meta (key TEXT PRIMARY KEY, value);
"""


@dataclass(frozen=True, slots=True)
class Intent:
    """A change about to be made; `owes` are the listeners to refresh because of it."""

    resource: str
    source: str
    action: str
    cause: str
    before: State | None
    attributes: Sequence[AttributeChange]
    diff: str | None
    temporaries: Sequence[str]
    owes: Sequence[str]


class Journal:
    """The journal and the backups in one root-only folder."""

    def __init__(self, folder: Path, *, write: bool) -> None:
        self.folder = folder
        self._path = folder / "journal.sqlite"
        self._key: bytes | None = None
        try:
            if write:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                (folder / "backups").mkdir(mode=0o700, exist_ok=True)
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
                self._db = sqlite3.connect(self._path, timeout=30)
            else:
                self._db = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=30)
            self._prepare(write)
        except (sqlite3.Error, OSError) as error:
            raise JournalError(
                f"the journal {self._path} cannot be opened: {error}",
                hint="if it is damaged, move it away: a new one is begun, and only the history is lost",
            ) from None

    def _prepare(self, write: bool) -> None:
        if write:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and write:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")
        elif version > _SCHEMA_VERSION:
            raise JournalError(f"the journal {self._path} is of a newer version of state-agent")

    def close(self) -> None:
        """Write what is left and close."""
        with contextlib.suppress(sqlite3.Error):
            self._db.commit()
        self._db.close()

    # Runs

    def begin(self, mode: str, site: Path) -> int:
        """A new run; gives its number. Only while the lock is held: a run that is still open was cut off."""
        self._db.execute("UPDATE run SET outcome = 'cut off' WHERE outcome = 'running'")
        row = self._db.execute(
            "INSERT INTO run (started, mode, site, pid, outcome) VALUES (?, ?, ?, ?, 'running')",
            (time.time(), mode, str(site), os.getpid()),
        )
        self._db.commit()
        return int(row.lastrowid or 0)

    def end(self, run: int, outcome: str, summary: Mapping[str, int]) -> None:
        """The end of a run, and of what is too old to be kept."""
        self._db.execute(
            "UPDATE run SET ended = ?, outcome = ?, summary = ? WHERE id = ?",
            (time.time(), outcome, json.dumps(summary), run),
        )
        self._prune(run - _KEPT_RUNS)
        self._db.commit()

    def _prune(self, oldest: int) -> None:
        if not self._db.execute("DELETE FROM run WHERE id <= ?", (oldest,)).rowcount:
            return
        self._db.execute("DELETE FROM change WHERE run <= ?", (oldest,))
        kept = set()
        for (text,) in self._db.execute("SELECT before FROM change UNION SELECT original FROM resource"):
            kept.update(_blobs(json.loads(text) if text else None))
        for path in (self.folder / "backups").iterdir():
            if path.name not in kept:
                path.unlink()

    def leftovers(self) -> list[str]:
        """Temporaries of changes that were cut off; afterwards these changes count as looked after."""
        rows = self._db.execute("SELECT temporaries FROM change WHERE outcome = 'intended'").fetchall()
        self._db.execute("UPDATE change SET outcome = 'cut off' WHERE outcome = 'intended'")
        return [path for (text,) in rows for path in json.loads(text)]

    # Changes

    def intend(self, run: int, intents: Sequence[Intent]) -> list[int]:
        """Write down what is about to be done, and what will be owed for it, before it is done."""
        numbers = []
        for intent in intents:
            row = self._db.execute(
                "INSERT INTO change (run, resource, source, action, cause, outcome, started, before, attributes, diff,"
                " temporaries) VALUES (?, ?, ?, ?, ?, 'intended', ?, ?, ?, ?, ?)",
                (
                    run,
                    intent.resource,
                    intent.source,
                    intent.action,
                    intent.cause,
                    time.time(),
                    json.dumps(self._kept(intent.before)),
                    json.dumps(
                        [[each.attribute, shown(each.actual), shown(each.desired)] for each in intent.attributes]
                    ),
                    intent.diff[:_DIFF_LIMIT] if intent.diff else None,
                    json.dumps(list(intent.temporaries)),
                ),
            )
            numbers.append(int(row.lastrowid or 0))
            self._db.executemany(
                "INSERT OR IGNORE INTO owed VALUES (?, ?, ?)",
                [(listener, intent.resource, run) for listener in intent.owes],
            )
        self._db.commit()
        return numbers

    def outcome(self, number: int, outcome: str, duration: float, error: str | None = None) -> None:
        """How a change ended; on the disk with the next intent, or at the end of the run."""
        self._db.execute(
            "UPDATE change SET outcome = ?, duration = ?, error = ? WHERE id = ?", (outcome, duration, error, number)
        )

    def _kept(self, state: State | None) -> Any:
        """A state as the journal keeps it: contents go to the backups, secrets nowhere."""
        if state is None:
            return None
        kept: dict[str, Any] = {}
        for name, value in state.items():
            if isinstance(value, bytes):
                kept[name] = {"blob": self._back_up(value)}
            else:
                kept[name] = {"sensitive": True} if isinstance(value, Secret) else value
        return kept

    def _back_up(self, content: bytes) -> str:
        name = hashlib.blake2b(content, digest_size=32).hexdigest()
        path = self.folder / "backups" / name
        if not path.exists():
            temporary = self.folder / "backups" / "new"
            temporary.unlink(missing_ok=True)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(fd)
            temporary.replace(path)
        return name

    def state_before(self, text: str | None) -> State | None:
        """A state that the journal kept, with its contents from the backups. Secrets are missing in it."""
        kept = json.loads(text) if text else None
        if kept is None:
            return None
        found = {}
        for name, value in kept.items():
            if isinstance(value, dict) and "blob" in value:
                found[name] = (self.folder / "backups" / value["blob"]).read_bytes()
            elif not (isinstance(value, dict) and value.get("sensitive")):
                found[name] = value
        return found

    # Refreshes owed

    def owed(self) -> dict[str, list[str]]:
        """Listeners that are still to be refreshed, with the ids of what was changed."""
        found: dict[str, list[str]] = {}
        for listener, cause in self._db.execute("SELECT listener, cause FROM owed ORDER BY run, cause"):
            found.setdefault(listener, []).append(cause)
        return found

    def strike_off(self, listener: str) -> None:
        """A refresh that was owed has been done."""
        self._db.execute("DELETE FROM owed WHERE listener = ?", (listener,))

    def forget_owed(self, listeners: Iterable[str]) -> None:
        """Refreshes owed to what is no longer declared."""
        self._db.executemany("DELETE FROM owed WHERE listener = ?", [(listener,) for listener in listeners])

    # What the agent last set

    def last_set(self, id: str) -> dict[str, Any] | None:
        """The state that a resource was last set to or found in, as `comparable` gives it; None if never."""
        row = self._db.execute("SELECT last_set FROM resource WHERE id = ?", (id,)).fetchone()
        return None if row is None or row[0] is None else json.loads(row[0]) or {}

    def was_set_to(self, id: str, state: State | None) -> bool | None:
        """Whether this is the state it was last set to; None where it was never set."""
        row = self._db.execute("SELECT last_set FROM resource WHERE id = ?", (id,)).fetchone()
        return None if row is None or row[0] is None else bool(row[0] == self.comparable(state))

    def comparable(self, state: State | None) -> str:
        """A state as text that is equal for equal states: contents as digests, secrets as keyed digests."""
        return json.dumps(
            None if state is None else {name: self._comparable_value(state[name]) for name in sorted(state)},
            sort_keys=True,
        )

    def _comparable_value(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return "blake2b:" + hashlib.blake2b(value, digest_size=16).hexdigest()
        if isinstance(value, Secret):
            plain = value.reveal()
            data = plain.encode() if isinstance(plain, str) else plain
            return "keyed:" + hashlib.blake2b(data, key=self._digest_key(), digest_size=16).hexdigest()
        if isinstance(value, Mapping):
            return {str(key): self._comparable_value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._comparable_value(item) for item in value]
        return value

    def _digest_key(self) -> bytes:
        if self._key is None:
            path = self.folder / "key"
            key = path.read_bytes() if path.exists() else b""
            if len(key) != 32:
                key = secrets.token_bytes(32)
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                    file.write(key)
            self._key = key
        return self._key

    def record(
        self,
        id: str,
        site: Path,
        source: str,
        kind: str,
        declared: Mapping[str, Any],
        on_removal: str,
        state: State | None,
    ) -> None:
        """A resource is now in this state; what it was before the agent's first change is kept from its first change."""
        text = self.comparable(state)
        original = self._db.execute(
            "SELECT before FROM change WHERE resource = ? AND action IN ('add', 'change', 'remove')"
            " AND id > coalesce((SELECT value FROM meta WHERE key = ?), 0) ORDER BY id LIMIT 1",
            (id, f"undone:{id}"),
        ).fetchone()
        plain = json.dumps({name: value for name, value in declared.items() if not _has_secret(value)}, default=str)
        self._db.execute(
            "INSERT INTO resource (id, site, source, last_set, original, kind, declared, on_removal)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET site = excluded.site,"
            " source = excluded.source, last_set = excluded.last_set, original = coalesce(original, excluded.original),"
            " declared = excluded.declared, on_removal = excluded.on_removal, told = 0",
            (id, str(site), source, text, original[0] if original else None, kind, plain, on_removal),
        )

    def recorded(self) -> dict[str, str]:
        """Ids of all resources that were ever set, with their last set state as text."""
        return dict(self._db.execute("SELECT id, last_set FROM resource"))

    def removed(self, site: Path, declared: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Rows of resources of this site that are no longer declared."""
        known = set(declared)
        columns = ("id", "source", "kind", "original", "declared", "on_removal", "told")
        rows = self._db.execute(f"SELECT {', '.join(columns)} FROM resource WHERE site = ?", (str(site),)).fetchall()
        for row in rows:
            if row[0] not in known:
                yield dict(zip(columns, row, strict=True))

    def told(self, id: str) -> None:
        """The user was told that a resource is no longer declared and was left alone."""
        self._db.execute("UPDATE resource SET told = 1 WHERE id = ?", (id,))

    def forget(self, id: str) -> None:
        """A resource that was undone: should it be declared again, its history begins anew."""
        self._db.execute(
            "INSERT OR REPLACE INTO meta SELECT ?, max(id) FROM change WHERE resource = ?", (f"undone:{id}", id)
        )
        self._db.execute("DELETE FROM resource WHERE id = ?", (id,))

    def meta(self, key: str) -> str | None:
        """A note of the engine's own."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def set_meta(self, key: str, value: str) -> None:
        """Keep a note of the engine's own."""
        self._db.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )

    # Reading back

    def runs(self, limit: int = 50) -> list[dict[str, Any]]:
        """The last runs, newest first."""
        return self._rows("SELECT * FROM run ORDER BY id DESC LIMIT ?", (limit,))

    def run(self, number: int) -> dict[str, Any] | None:
        """One run, or None."""
        rows = self._rows("SELECT * FROM run WHERE id = ?", (number,))
        return rows[0] if rows else None

    def changes(self, run: int) -> list[dict[str, Any]]:
        """The changes of a run in their order."""
        return self._rows("SELECT * FROM change WHERE run = ? ORDER BY id", (run,))

    def repairs(self) -> dict[str, dict[str, Any]]:
        """By resource: how often drift was repaired, and when it was last seen."""
        rows = self._db.execute(
            "SELECT resource, count(*) FILTER (WHERE outcome = 'done'), max(started) FROM change"
            " WHERE cause = 'drift' GROUP BY resource"
        )
        return {id: {"repairs": count, "last_drift": last} for id, count, last in rows}

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        cursor = self._db.execute(query, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def shown(value: Any) -> Any:
    """A value as plans, JSON and the journal show it: contents as digests, secrets not at all."""
    if isinstance(value, bytes):
        return "blake2b:" + hashlib.blake2b(value, digest_size=16).hexdigest()
    if isinstance(value, Secret):
        return REDACTED
    if isinstance(value, Mapping):
        return {str(key): shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(item) for item in value]
    return value


def _has_secret(value: Any) -> bool:
    from agent.secret import SecretText

    if isinstance(value, Mapping):
        return any(_has_secret(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_has_secret(item) for item in value)
    return isinstance(value, Secret | SecretText)


def _blobs(kept: Any) -> set[str]:
    if not isinstance(kept, dict):
        return set()
    return {value["blob"] for value in kept.values() if isinstance(value, dict) and "blob" in value}
