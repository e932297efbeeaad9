"""PostgreSQL: one connection for each database and run; what is read in bulk is kept until `forget`."""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from agent.errors import Missing, ResourceError
from agent.host.postgres.clusters import ETC, Cluster, Clusters
from agent.host.postgres.roles import DatabaseEntry, RoleEntry, others_connected, read_databases, read_roles
from agent.host.postgres.rows import Reading
from agent.host.postgres.session import LOCK_LIMIT, Counter, Session
from agent.host.postgres.tables import Tables

_MAINTENANCE = ("postgres", "template1")
"""Databases that every cluster has, for what belongs to no database (initdb(1))."""
_LEAVING = 1.0


class Postgres:
    """The clusters of this host."""

    def __init__(self, etc: str = ETC, lock_limit: float = LOCK_LIMIT) -> None:
        self._clusters = Clusters(etc)
        self._lock_limit = lock_limit
        self._servers: dict[str | None, Server] = {}
        self._sessions: dict[tuple[str, int, str], Session] = {}
        self._failures: dict[tuple[str, int, str], ResourceError] = {}
        self._normal: dict[tuple[str, int, str], dict[str, Any]] = {}
        self._counter = Counter()
        self.close = weakref.finalize(self, _close_all, self._sessions)

    def server(self, cluster: str | None = None) -> Server:
        """A running cluster, by its name or as the only one. Raises as `Clusters.find` does."""
        if cluster not in self._servers:
            self._servers[cluster] = Server(self, self._clusters.find(cluster))
        return self._servers[cluster]

    def leave(self) -> None:
        """Give up all connections until they are needed again. What servers made of declarations stays."""
        self.forget()
        _close_all(self._sessions)

    def forget(self) -> None:
        """Drop what was read. Connections stay, and what the servers made of declarations."""
        self._servers.clear()
        self._failures.clear()

    def session(self, cluster: Cluster, database: str) -> Session:
        """The one connection to a database, which must exist."""
        key = (cluster.folder, cluster.port, database)
        if key in self._failures:
            raise self._failures[key]  # many resources cost one attempt
        if key not in self._sessions:
            try:
                self._sessions[key] = Session(cluster, database, self._counter, self._lock_limit)
            except ResourceError as error:
                self._failures[key] = error
                raise
        return self._sessions[key]

    def opened(self, cluster: Cluster, database: str) -> Session | None:
        """The connection to a database, where there is one already."""
        return self._sessions.get((cluster.folder, cluster.port, database))

    def end_session(self, cluster: Cluster, database: str) -> int:
        """Close the connection to a database that is to go, and forget what was made in it; gives its process, or 0."""
        key = (cluster.folder, cluster.port, database)
        self._normal.pop(key, None)
        session = self._sessions.pop(key, None)
        if session is None:
            return 0
        pid = session.pid
        session.close()
        return pid

    def normal_forms(self, cluster: Cluster, database: str) -> dict[str, Any]:
        """What the server made of declarations in this run: it needs no second look after a change."""
        return self._normal.setdefault((cluster.folder, cluster.port, database), {})

    @property
    def queries(self) -> int:
        """How many queries were sent so far."""
        return self._counter.queries


def _close_all(sessions: dict[Any, Session]) -> None:
    for session in sessions.values():
        session.close()
    sessions.clear()


class Server:
    """A running cluster, and what was read of it. `readings` are those of rows, with what declares them, by its id."""

    def __init__(self, postgres: Postgres, cluster: Cluster) -> None:
        self._postgres = weakref.proxy(postgres)
        self.cluster = cluster
        self._tables: dict[str, Tables] = {}
        self._extensions: dict[str, frozenset[str]] = {}
        self.readings: dict[str, tuple[Any, Reading]] = {}

    @cached_property
    def main(self) -> Session:
        """A connection for what belongs to no database. Raises ResourceError where there is none."""
        errors = []
        for database in _MAINTENANCE:
            try:
                session: Session = self._postgres.session(self.cluster, database)
            except ResourceError as error:
                errors.append(error)
            else:
                return session
        raise errors[0]

    @cached_property
    def roles(self) -> Mapping[str, RoleEntry]:
        """All roles, by name."""
        return read_roles(self.main)

    @cached_property
    def databases(self) -> Mapping[str, DatabaseEntry]:
        """All databases, by name."""
        return read_databases(self.main)

    def session(self, database: str) -> Session:
        """The connection to a database; raises Missing where it does not exist."""
        entry = self.databases.get(database)
        if entry is None:
            raise Missing(f"the database {database} does not exist", hint=f"declare [postgres_database.{database}]")
        if not entry.connectable:
            raise ResourceError(f"the database {database} lets nobody connect (datallowconn)")
        session: Session = self._postgres.session(self.cluster, database)
        return session

    def end_session(self, database: str) -> list[str]:
        """Close the connection to a database; gives who else is connected to it, one phrase for each.

        Whoever has just left is gone from the server's list only an instant later.
        """
        own = self._postgres.end_session(self.cluster, database)
        deadline = time.monotonic() + _LEAVING
        while (others := others_connected(self.main, database, own)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return others

    def extensions(self, database: str) -> frozenset[str]:
        """The extensions that are installed in a database."""
        if database not in self._extensions:
            rows = self.session(database).rows("SELECT extname::text FROM pg_extension")
            self._extensions[database] = frozenset(name for (name,) in rows)
        return self._extensions[database]

    def tables(self, database: str) -> Tables:
        """The tables of a database."""
        if database not in self._tables:
            forms = self._postgres.normal_forms(self.cluster, database)
            self._tables[database] = Tables(self.session(database), database, forms)
        return self._tables[database]

    @cached_property
    def _encodings(self) -> dict[str, str]:
        return {}

    def encoding(self, name: str) -> str:
        """The server's own name of an encoding. Raises ResourceError for one that it does not know."""
        if name not in self._encodings:
            rows = self.main.rows("SELECT pg_encoding_to_char(pg_char_to_encoding(%s))::text", (name,))
            self._encodings[name] = rows[0][0]
        if not self._encodings[name]:
            raise ResourceError(f'PostgreSQL knows no encoding "{name}"', hint="UTF8 is the usual one")
        return self._encodings[name]
