"""What a rollback asks of the journal: what was changed since a run, by whom it was declared, and what is held."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.journal.database import Database

_CHANGED = "action IN ('add', 'change', 'remove')"


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of a resource: who declared it where and how, as JSON, and what it was last set to."""

    site: str
    source: str
    kind: str
    declared: str
    on_removal: str
    last_set: str | None


class Rolling:
    """The journal's tables, as a rollback looks at them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def changes_since(self, run: int, site: Path) -> list[dict[str, Any]]:
        """What runs of this site changed, from this run on, the first change first."""
        return self._db.tables(
            "SELECT change.* FROM change JOIN run ON run.id = change.run WHERE change.run >= ? AND run.site = ?"
            f" AND {_CHANGED} ORDER BY change.id",
            (run, str(site)),
        )

    def newest_change(self) -> int:
        """The number of the newest change."""
        return int(self._db.rows("SELECT coalesce(max(id), 0) FROM change")[0][0])

    def latest(self, id: str) -> dict[str, Any] | None:
        """The latest change of a resource, by whichever site."""
        query = f"SELECT * FROM change WHERE resource = ? AND {_CHANGED} ORDER BY id DESC LIMIT 1"
        rows = self._db.tables(query, (id,))
        return rows[0] if rows else None

    def is_complete_since(self, run: int) -> bool:
        """Whether all that was changed since this run is still in the journal.

        Runs that changed nothing are dropped on their own, so only behind one of those a changing one may be missing.
        """
        busy = self._db.rows("SELECT 1 FROM change WHERE run = ? LIMIT 1", (run,))
        count, newest = self._db.rows("SELECT count(*), max(id) FROM run WHERE id >= ?", (run,))[0]
        return bool(busy) or count == newest - run + 1

    def remembered(self, id: str) -> Memory | None:
        """What is remembered of a resource, also of one that was undone and belongs to no site any more."""
        columns = "site, source, kind, declared, on_removal, last_set"
        rows = self._db.rows(f"SELECT {columns} FROM resource WHERE id = ?", (id,))
        return Memory(*rows[0]) if rows else None

    def put_back(self, id: str, state: str) -> None:
        """A resource was rolled back to this state, as `comparable` gives it."""
        self._db.write("UPDATE resource SET last_set = ? WHERE id = ?", (state, id))

    def hold(self, id: str, desired: str) -> None:
        """What is rolled back stays so under the resident agent while its declaration asks for this state."""
        self._db.write("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"held:{id}", desired))

    def release(self, id: str) -> None:
        """It is not held any more."""
        self._db.write("DELETE FROM meta WHERE key = ?", (f"held:{id}",))

    def held(self) -> dict[str, str]:
        """By id of what was rolled back, the state that its declaration asked for then."""
        rows = self._db.rows("SELECT substr(key, 6), value FROM meta WHERE key LIKE 'held:%'")
        return dict(rows)
