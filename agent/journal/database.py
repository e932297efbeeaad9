"""The journal's database: SQLite in WAL mode, with every error of it told as one of the journal's."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.errors import JournalError

_VERSION = 1
_SCHEMA = """
CREATE TABLE run (id INTEGER PRIMARY KEY AUTOINCREMENT, started REAL, ended REAL, mode TEXT, site TEXT, pid INTEGER,
                  outcome TEXT, summary TEXT);
CREATE TABLE change (id INTEGER PRIMARY KEY, run INTEGER, resource TEXT, source TEXT, action TEXT, cause TEXT,
                     outcome TEXT, started REAL, duration REAL, before TEXT, attributes TEXT, diff TEXT, error TEXT,
                     temporaries TEXT);
CREATE INDEX change_run ON change (run);
CREATE INDEX change_resource ON change (resource);
CREATE TABLE owed (listener TEXT, cause TEXT, run INTEGER, PRIMARY KEY (listener, cause));
CREATE TABLE resource (id TEXT PRIMARY KEY, site TEXT, source TEXT, last_set TEXT, original TEXT, kind TEXT,
                       declared TEXT, on_removal TEXT, told INTEGER DEFAULT 0);
CREATE TABLE meta (key TEXT PRIMARY KEY, value);
"""
_DAMAGED = "if it is damaged, move it away: a new one is begun, and only the history is lost"
_FULL = "make room on the disk: nothing is changed that cannot be noted down first"


class Database:
    """One connection. What is written is on the disk after `commit`."""

    def __init__(self, path: Path, *, write: bool) -> None:
        self._path = path
        self._write = write
        self._db = self._opened()
        with self._told():
            self._prepare()

    def _opened(self, *, shared: bool = False) -> sqlite3.Connection:
        with self._told():
            if self._write:
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
                return sqlite3.connect(self._path, timeout=30)
            # Where there is no WAL nobody writes, and a reader that takes no lock leaves no files behind.
            quiet = "" if shared or Path(f"{self._path}-wal").exists() else "&immutable=1"
            return sqlite3.connect(f"file:{_escaped(self._path)}?mode=ro{quiet}", uri=True, timeout=30)

    def _prepare(self) -> None:
        if self._write:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and self._write:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        elif version > _VERSION:
            raise JournalError(f"the journal {self._path} is of a newer version of state-agent")
        self.is_new = version == 0

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise JournalError(f"the journal {self._path} cannot be opened: {error.strerror}") from None
        except sqlite3.OperationalError as error:
            hint = _FULL if error.sqlite_errorcode == sqlite3.SQLITE_FULL else _DAMAGED
            raise JournalError(f"the journal {self._path} cannot be used: {error}", hint=hint) from None
        except sqlite3.Error as error:
            raise JournalError(f"the journal {self._path} cannot be read: {error}", hint=_DAMAGED) from None

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows that a query gives."""
        return self._ask(query, values)[1]

    def tables(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """All rows that a query gives, by the names of their columns."""
        names, rows = self._ask(query, values)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _ask(self, query: str, values: Sequence[Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
        with self._told():
            try:
                cursor = self._db.execute(query, values)
                return [column[0] for column in cursor.description], cursor.fetchall()
            except sqlite3.DatabaseError:
                if self._write:
                    raise
            # Somebody may have begun to write since it was opened; then it is read with locks.
            self._db.close()
            self._db = self._opened(shared=True)
            cursor = self._db.execute(query, values)
            return [column[0] for column in cursor.description], cursor.fetchall()

    def write(self, query: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Carry out one statement; it is on the disk with the next `commit`."""
        with self._told():
            return self._db.execute(query, values)

    def write_all(self, query: str, values: Iterable[Sequence[Any]]) -> None:
        """Carry out one statement for each row of values."""
        with self._told():
            self._db.executemany(query, values)

    def commit(self) -> None:
        """Write what was done to the disk."""
        with self._told():
            self._db.commit()

    def close(self) -> None:
        """Write what is left and close."""
        with contextlib.suppress(sqlite3.Error):
            self._db.commit()
        with contextlib.suppress(sqlite3.Error):
            self._db.close()


def _escaped(path: Path) -> str:
    """A path as a URI of SQLite's has it (sqlite.org/uri.html); `Path.as_uri` would import all of urllib.parse."""
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
