"""Rows of a table: how the server understands the declared ones, what is there, read in one query.

Values go through the type of their column on the server, so that 1 and "1", or two spellings of an instant, are equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from agent.errors import Missing, ResourceError
from agent.host.postgres.errors import Refused
from agent.host.postgres.names import TableName, quote
from agent.host.postgres.session import Session
from agent.host.postgres.upsert import RowStatement, Texts, Value

OTHERS_SHOWN = 100
_WRONG_VALUE = ("22", "23")
"""Classes of sqlstate: a value that its type or a domain does not take."""
_COLUMNS = """
SELECT a.attname::text, a.attidentity::text, a.attgenerated::text
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
# Nothing of these transactions gets into the server's log: neither values in complaints nor the statements with them.
_UNLOGGED = "SET LOCAL log_min_messages = panic; SET LOCAL log_min_error_statement = panic"


@dataclass(frozen=True, slots=True)
class RowsSpec:
    """Rows as declared: plain values by column. `hidden` are the columns whose values must not be seen."""

    name: TableName
    key: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    exclusive: bool
    hidden: frozenset[str]


@dataclass(frozen=True, slots=True)
class Row:
    """A declared row as the server understands it, and the one that is there: the output of each column's type."""

    number: int
    label: str
    desired: Texts
    actual: Texts | None

    @property
    def differing(self) -> Texts:
        """What differs, as desired."""
        actual = self.actual or {}
        return {name: text for name, text in self.desired.items() if self.actual is None or actual[name] != text}


@dataclass(frozen=True, slots=True)
class Reading:
    """All declared rows, the labels of those that are not declared (with `exclusive`), and columns ALWAYS generated."""

    rows: Sequence[Row]
    others: Sequence[str]
    always: frozenset[str]


class RowsReader:
    """Reads the rows of one declaration."""

    def __init__(self, session: Session, spec: RowsSpec) -> None:
        self._session = session
        self._spec = spec
        self._columns = list(dict.fromkeys([*spec.key, *(name for row in spec.rows for name in row)]))

    def read(self) -> Reading:
        """Raises Missing where the table is not there, ResourceError where the rows do not fit it."""
        name = self._spec.name
        known = {column: rest for column, *rest in self._session.rows(_COLUMNS, (name.schema, name.table))}
        if not known:
            raise Missing(f"the table {name.schema}.{name.table} does not exist in the database {name.database}")
        for column in self._columns:
            if column not in known:
                raise ResourceError(f"{name.sql} has no column {column}", hint=f"it has {', '.join(known)}")
        with self._quiet():
            rows = self._rows(self._spec.rows) if self._spec.rows else []
            others = self._others() if self._spec.exclusive else []
        self._check_keys(rows)
        always = frozenset(column for column, (identity, _) in known.items() if identity == "a")
        return Reading(rows, others, always)

    def _quiet(self) -> AbstractContextManager[None]:
        return quiet_transaction(self._session, self._spec, keep=False)

    def _rows(self, declared: Sequence[Mapping[str, Any]]) -> list[Row]:
        self._session.run("SAVEPOINT declared")
        try:
            return self._read(declared)
        except Refused as error:
            if not error.sqlstate.startswith(_WRONG_VALUE):
                raise
            self._session.run("ROLLBACK TO declared")
            for number, row in enumerate(declared, 1):
                self._find_wrong(number, row)
            raise

    def _find_wrong(self, number: int, row: Mapping[str, Any]) -> None:
        """Say of which row and column the server's complaint is."""
        for column in row:
            self._session.run("SAVEPOINT one")
            try:
                self._read([{column: row[column]}])
            except Refused as error:
                raise ResourceError(f"row {number}, column {column}: {error.summary}") from None
            self._session.run("RELEASE one")

    def _read(self, declared: Sequence[Mapping[str, Any]]) -> list[Row]:
        table = self._spec.name.sql
        wanted = "".join(f", d.{quote(column)}::text, t.{quote(column)}::text" for column in self._columns)
        sql: tuple[str | Value, ...] = (
            f"SELECT e.n, t.ctid IS NOT NULL{wanted} FROM json_array_elements(", Value(_as_json(declared)),
            "::text::json) WITH ORDINALITY AS e(v, n) "
            f"CROSS JOIN LATERAL json_populate_record(NULL::{table}, e.v) AS d "
            f"LEFT JOIN {table} AS t ON {self._on()} ORDER BY e.n",
        )  # fmt: skip
        found = RowStatement(sql).rows(self._session, hidden=bool(self._spec.hidden))
        return [self._row(number, declared[number - 1], there, values) for number, there, *values in found]

    def _row(self, number: int, declared: Mapping[str, Any], there: bool, values: Sequence[str | None]) -> Row:
        pairs = zip(values[::2], values[1::2], strict=True)
        both = dict(zip(self._columns, pairs, strict=True))
        desired = {column: both[column][0] for column in declared}
        label = ", ".join(str(desired.get(column)) for column in self._spec.key)
        return Row(number, label, desired, {column: both[column][1] for column in declared} if there else None)

    def _on(self) -> str:
        return " AND ".join(f"t.{quote(key)} = d.{quote(key)}" for key in self._spec.key)

    def _others(self) -> list[str]:
        table = self._spec.name.sql
        label = " || ', ' || ".join(f"coalesce(t.{quote(key)}::text, 'NULL')" for key in self._spec.key)
        sql = (
            f"SELECT {label}, count(*) OVER () FROM {table} AS t WHERE NOT EXISTS (SELECT FROM "
            f"json_populate_recordset(NULL::{table}, ",
            Value(_as_json([{key: row[key] for key in self._spec.key} for row in self._spec.rows])),
            f"::text::json) AS d WHERE {self._on()}) ORDER BY 1 LIMIT {OTHERS_SHOWN}",
        )
        found = RowStatement(sql).rows(self._session)
        left = found[0][1] - len(found) if found else 0
        return [label for label, _ in found] + [f"… and {left} more"] * (left > 0)

    def _check_keys(self, rows: Sequence[Row]) -> None:
        seen: dict[str, int] = {}
        for row in rows:
            if row.label in seen:
                same = seen[row.label] == row.number
                what = "holds several rows with" if same else "has two declared rows with"
                raise ResourceError(f"{self._spec.name.sql} {what} the key {row.label}", hint="make the key unique")
            seen[row.label] = row.number


def _as_json(rows: Any) -> str:
    return json.dumps(rows, ensure_ascii=False)


@contextmanager
def quiet_transaction(session: Session, spec: RowsSpec, *, keep: bool) -> Iterator[None]:
    """A transaction on the table; where a column of it is hidden, nothing of it gets into the server's log."""
    with session.transaction([spec.name], keep=keep):
        if spec.hidden:
            session.run(_UNLOGGED)
        yield
