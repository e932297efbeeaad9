"""Rows of a table of PostgreSQL."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

from agent.errors import Degraded, ResourceError
from agent.fields import Doc, Parsed
from agent.host import Host
from agent.host.postgres.names import TableName, cluster_name, one_name, rows_name
from agent.host.postgres.needs import server_requirements
from agent.host.postgres.rows import Reading, Row, RowsReader, RowsSpec, quiet_transaction
from agent.host.postgres.session import Session
from agent.host.postgres.upsert import RowStatement, Upsert
from agent.resource import Change, Resource, State, Undoable
from agent.secret import Secret, SecretText
from agent.sources import Catalog, Source

_OTHERS = "rows not declared"


def row(given: dict[str, Any]) -> dict[str, Any]:
    """One row; dates and times become texts, which the server reads as its own."""
    if not given:
        raise ValueError("a row has at least its key")
    return {one_name(name): _plain(value) for name, value in given.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    return value


def _revealed(value: Any) -> Any:
    if isinstance(value, SecretText):
        return value.reveal()
    if isinstance(value, list):
        return [_revealed(item) for item in value]
    if isinstance(value, dict):
        return {key: _revealed(item) for key, item in value.items()}
    return value


def _holds_secret(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return any(map(_holds_secret, value)) if isinstance(value, list) else isinstance(value, SecretText)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresRows(Resource, Undoable):
    """Rows of a table of PostgreSQL, each known by its key: missing ones are added, those that differ are changed.

    Only declared columns are managed: a new row gets the table's defaults in the others. Values are compared as values
    of their column's type, so `1` and `"1"`, or two spellings of an instant, are equal. All of a change is one
    transaction, and the plan shows its SQL, without what is sensitive. A column with a secret in it is sensitive
    without being declared so.
    """

    kind: ClassVar[str] = "postgres_rows"
    reads_with: ClassVar[tuple[str, ...]] = ("psycopg",)
    looks_every: ClassVar[str] = "5m"
    example: ClassVar[str] = (
        '[postgres_rows."mail.public.domains+shipped"]\nkey = ["name"]\nrows = [\n'
        '  { name = "example.net", quota = 100 },\n  { name = "example.org", quota = 50 },\n]\n\n'
        '[postgres_table."mail.public.domains"]\ncolumns = { name = "text", quota = "int" }\nprimary_key = ["name"]\n\n'
        "[postgres_database.mail]\n"
    )

    name: Annotated[
        str, Parsed(rows_name), Doc("The table (`database.schema.table`), with `+label` where several declare its rows")
    ]
    ensure: Annotated[
        Literal["present", "absent"], Doc("Whether these rows are there; to be absent they need their key only")
    ] = "present"
    key: Annotated[
        list[Annotated[str, Parsed(one_name)]], Doc("The columns that tell one row from another; each row has them")
    ] = field(default_factory=list)
    rows: Annotated[
        list[Annotated[dict[str, Any], Parsed(row)]],
        Doc("The rows, each a table of values by column; lists are arrays, tables are JSON; there is no NULL in TOML"),
    ] = field(default_factory=list)
    exclusive: Annotated[bool, Doc("Whether all rows that are not declared are deleted")] = False
    sensitive_columns: Annotated[
        list[Annotated[str, Parsed(one_name)]], Doc("Columns whose values are never shown, journalled or logged")
    ] = field(default_factory=list)
    cluster: Annotated[
        Annotated[str, Parsed(cluster_name)] | None,
        Doc('The cluster, such as `"17/main"`, or its data directory; the one that runs where not given'),
    ] = None

    def problems(self) -> Iterable[str]:
        if not self.key:
            yield "key is missing: the columns that tell one row from another"
        for number, each in enumerate(self.rows, 1):
            missing = [column for column in self.key if column not in each]
            if missing:
                yield f"row {number} has no {', '.join(missing)}, which is its key"
        if wrong := self.hidden.intersection(self.key):
            yield f"{', '.join(sorted(wrong))} cannot be sensitive, as rows are called by their key"
        if self.ensure == "absent" and self.exclusive:
            yield 'exclusive has no meaning with ensure = "absent"'

    def claims(self) -> Iterable[tuple[str, str]]:
        if self.ensure == "present":
            how = f"exclusively as {self.name}" if self.exclusive else "without exclusive"
            yield f"the rows of {replace(self.table, label='')}", f"are declared {how}"

    @property
    def table(self) -> TableName:
        """Its table in parts."""
        return TableName.parse(self.name)

    @property
    def hidden(self) -> frozenset[str]:
        """The columns whose values must not be seen."""
        secret = {column for each in self.rows for column, value in each.items() if _holds_secret(value)}
        return frozenset(secret.union(self.sensitive_columns))

    def _spec(self) -> RowsSpec:
        only = self.key if self.ensure == "absent" else None
        rows = [{name: _revealed(each[name]) for name in only or each} for each in self.rows]
        return RowsSpec(self.table, self.key, rows, self.exclusive, self.hidden)

    def _session(self, host: Host) -> Session:
        return host.postgres.server(self.cluster).session(self.table.database)

    def _reading(self, host: Host) -> Reading:
        readings = host.postgres.server(self.cluster).readings
        known, reading = readings.get(self.id, (None, None))
        if reading is None or known is not self:
            reading = RowsReader(self._session(host), self._spec()).read()
            readings[self.id] = (self, reading)
        return reading

    def desired(self, host: Host) -> State | None:
        if self.ensure == "absent":
            return None
        reading = self._reading(host)
        state = {name: value for each in reading.rows for name, value in self._cells(each, each.desired)}
        return state | {_OTHERS: []} if self.exclusive else state

    def read(self, host: Host) -> State | None:
        if self.ensure == "absent" and self.table.database not in host.postgres.server(self.cluster).databases:
            return None
        reading = self._reading(host)
        present = [each for each in reading.rows if each.actual is not None]
        if not present and not reading.others and (self.rows or self.ensure == "absent"):
            return None
        state = {name: value for each in present for name, value in self._cells(each, each.actual or {})}
        return state | {_OTHERS: list(reading.others)} if self.exclusive else state

    def _cells(self, each: Row, texts: Mapping[str, str | None]) -> Iterable[tuple[str, Any]]:
        for column, text in texts.items():
            is_secret = column in self.hidden and text is not None
            yield f"{each.label}: {column}", Secret(text or "") if is_secret else text

    def _upsert(self, reading: Reading) -> Upsert:
        return Upsert(self.table, self.key, self.hidden, reading.always)

    def _statements(self, host: Host) -> list[RowStatement]:
        reading = self._reading(host)
        upsert = self._upsert(reading)
        if self.ensure == "absent":
            return [upsert.delete(each.desired) for each in reading.rows if each.actual is not None]
        statements = [upsert.delete_others([each.desired for each in reading.rows])] * bool(reading.others)
        for each in reading.rows:
            if each.actual is None:
                statements.append(upsert.insert(each.desired))
            elif each.differing:
                statements.append(upsert.update(each.desired, each.differing))
        return statements

    def preview(self, host: Host, change: Change) -> Sequence[str]:  # noqa: ARG002
        return [statement.shown for statement in self._statements(host)]

    def summary(self, host: Host, change: Change) -> str:  # noqa: ARG002
        reading = self._reading(host)
        if self.ensure == "absent":
            return f"{sum(each.actual is not None for each in reading.rows)} to delete"
        added = sum(each.actual is None for each in reading.rows)
        changed = sum(bool(each.actual is not None and each.differing) for each in reading.rows)
        counts = ((added, "to add"), (changed, "to change"), (len(reading.others), "to delete"))
        return "rows: " + ", ".join(f"{count} {word}" for count, word in counts if count)

    def apply(self, host: Host, change: Change) -> None:  # noqa: ARG002
        self._carry_out(host, self._statements(host))

    def _carry_out(self, host: Host, statements: Sequence[RowStatement]) -> None:
        session = self._session(host)
        with quiet_transaction(session, self._spec(), keep=True):
            for statement in statements:
                statement.rows(session, hidden=bool(self.hidden))

    def cannot_undo(self, host: Host, before: State | None) -> str:  # noqa: ARG002
        if not self.rows and not self.exclusive:
            raise ResourceError(f"the rows of {self.name} held secrets, so it is not known any more which they were")
        lost = (before or {}).get(_OTHERS)
        return f"{len(lost)} rows of {self.name} that were not declared were deleted, and not kept" if lost else ""

    def undo(self, host: Host, before: State | None) -> None:
        """Put the rows back that were changed, and delete those that were added."""
        left = self.cannot_undo(host, before)
        reading = self._reading(host)
        upsert, statements = self._upsert(reading), []
        for each in reading.rows:
            old = {column: (before or {})[f"{each.label}: {column}"] for column in each.desired
                   if f"{each.label}: {column}" in (before or {})}  # fmt: skip
            if not old and each.actual is not None:
                statements.append(upsert.delete(each.desired))
            elif old and each.actual is None:
                statements.append(upsert.insert(old))
            elif old:
                statements.append(upsert.update(each.desired, old))
        self._carry_out(host, statements)
        if left:
            raise Degraded(left, changed=True)

    def watched(self) -> Iterable[Source]:
        place = self.cluster, self.table.database, (self.table.schema, self.table.table)
        return [Catalog(*place), Catalog(*place, rows=True)]

    def implied_requires(self) -> Iterable[str]:
        bare = TableName(self.table.database, self.table.schema, self.table.table)
        database = f"postgres_database:{bare.database}"
        needed = [*server_requirements(self.cluster), database, f"postgres_table:{bare}"]
        return needed if self.ensure == "present" else needed[:-1]
