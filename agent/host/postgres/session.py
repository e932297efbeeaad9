"""A connection to one database: made as the cluster's superuser over the unix socket, kept for a whole run."""

from __future__ import annotations

import contextlib
import pwd
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import NotPermitted, ResourceError
from agent.host.identity import effective_user
from agent.host.postgres.clusters import Cluster
from agent.host.postgres.errors import LOCK_NOT_AVAILABLE, translated
from agent.host.postgres.names import TableName

if TYPE_CHECKING:
    import psycopg

LOCK_LIMIT = 10.0
"""Seconds to wait for a lock that somebody else holds."""
_STATEMENT_LIMIT = 1800.0
_START_LIMIT = 20.0
_SETTINGS = {
    "search_path": "",  # so that the catalog's own functions write every name with its schema
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "lc_messages": "C",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": r"read\ committed",
    "client_min_messages": "error",
    "jit": "off",  # to compile a query takes longer than any of these
    "statement_timeout": str(int(_STATEMENT_LIMIT * 1000)),
    # Values of rows can be secret: they go as parameters, and the server's log leaves those out.
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}
_HOLDERS = """
SELECT DISTINCT a.pid, a.usename, a.application_name, a.state, now() - a.xact_start, a.query
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.granted AND l.pid <> pg_backend_pid() AND l.relation IN (
  SELECT c.oid FROM unnest(%s::text[], %s::text[]) AS w(s, t)
  JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t)
ORDER BY 1
"""


@dataclass
class Counter:
    """Counts what is sent to servers."""

    queries: int = 0


class Session:
    """One connection."""

    def __init__(self, cluster: Cluster, database: str, counter: Counter, lock_limit: float) -> None:
        self._cluster = cluster
        self._database = database
        self._counter = counter
        self._lock_limit = lock_limit
        self._connection = self._connected()

    def _connected(self) -> psycopg.Connection[Any]:
        import psycopg

        deadline = time.monotonic() + _START_LIMIT
        while True:
            try:
                return self._connect()
            except psycopg.OperationalError as error:
                text = str(error).strip().splitlines()[-1] if str(error).strip() else "no reason given"
                starting = "starting up" in text or "not yet accepting" in text
                if not starting or time.monotonic() > deadline:
                    raise ResourceError(
                        f"PostgreSQL {self._cluster.name} does not let in its superuser (database {self._database})",
                        detail=text.rpartition("FATAL:")[2].strip(),
                        hint='pg_hba.conf needs the line "local all postgres peer", which Debian\'s has',
                    ) from None
            time.sleep(0.2)

    def _connect(self) -> psycopg.Connection[Any]:
        import psycopg

        user = pwd.getpwuid(self._cluster.uid).pw_name
        settings = {**_SETTINGS, "lock_timeout": str(int(self._lock_limit * 1000))}
        try:
            with effective_user(self._cluster.uid):  # peer authentication looks at who connects
                connection = psycopg.Connection.connect(
                    host=self._cluster.folder, port=self._cluster.port, dbname=self._database, user=user,
                    requirepeer=user, application_name="state-agent", connect_timeout=10, client_encoding="UTF8",
                    sslmode="disable", gssencmode="disable", passfile="/nonexistent", autocommit=True,
                    options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
                )  # fmt: skip
        except PermissionError:
            raise NotPermitted("only root and its own user can act as the superuser of PostgreSQL") from None
        connection.prepare_threshold = None
        return connection

    @property
    def version(self) -> int:
        """The server's version, such as 170004."""
        return self._connection.info.server_version

    @property
    def user(self) -> str:
        """The role it is connected as."""
        return self._connection.info.user

    @property
    def pid(self) -> int:
        """The process that serves it, 0 where the connection broke."""
        return 0 if self._connection.closed else self._connection.info.backend_pid

    def close(self) -> None:
        """End it."""
        self._connection.close()

    def rows(self, sql: str, values: Sequence[Any] = (), *, hidden: bool = False) -> list[tuple[Any, ...]]:
        """The rows that a query gives. Raises ResourceError; with `hidden` it never repeats a value."""
        cursor = self._execute(sql, values, hidden)
        return list(cursor.fetchall()) if cursor.description is not None else []

    def run(self, sql: str, values: Sequence[Any] = (), *, hidden: bool = False) -> None:
        """Carry out a statement, or several where there are no values."""
        self._execute(sql, values, hidden)

    def _execute(self, sql: str, values: Sequence[Any], hidden: bool) -> psycopg.Cursor[Any]:
        import psycopg

        self._counter.queries += 1
        self._revive()
        try:
            return self._connection.execute(sql, values or None)
        except psycopg.Error as error:
            raise translated(error, hidden=hidden) from None

    def _revive(self) -> None:
        """Connect again where the server was restarted since the last query, as its own resource may have done."""
        import psycopg

        if self._connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            return
        if self._connection.closed or _hung_up(self._connection.fileno()):
            self._connection.close()
            self._connection = self._connected()

    @contextlib.contextmanager
    def transaction(self, tables: Sequence[TableName] = (), *, keep: bool = True) -> Iterator[None]:
        """A transaction: kept where its block ends well and `keep` says so, else undone.

        Where a lock was waited for in vain, the error says who holds locks on these tables.
        """
        self.run("BEGIN")
        try:
            yield
        except BaseException as error:
            self._undo()
            if getattr(error, "sqlstate", "") == LOCK_NOT_AVAILABLE and tables:
                raise self.locked(tables) from None
            raise
        self.run("COMMIT" if keep else "ROLLBACK")

    def _undo(self) -> None:
        with contextlib.suppress(ResourceError):
            if not self._connection.closed:
                self.run("ROLLBACK")

    def locked(self, tables: Sequence[TableName]) -> ResourceError:
        """The error for tables that a lock was waited for in vain."""
        holders = self.rows(_HOLDERS, ([name.schema for name in tables], [name.table for name in tables]))
        detail = "\n".join(
            f"process {pid} of role {role} ({program or 'no application name'}), {state}, in a transaction for {age}: "
            f"{' '.join((query or '').split())[:200]}"
            for pid, role, program, state, age, query in holders
        )
        return ResourceError(
            f"{', '.join(name.sql for name in tables[:1])} is locked, also after {self._lock_limit:g} s",
            detail=detail,
            hint=f"wait for it, or end it with: SELECT pg_terminate_backend({holders[0][0]})" if holders else "",
        )


def _hung_up(fd: int) -> bool:
    """Whether the other side of a socket that should be silent has closed it, or has said that it will."""
    import select

    poller = select.poll()
    poller.register(fd, select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poller.poll(0))
