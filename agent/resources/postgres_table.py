"""A table of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from agent.errors import ResourceError
from agent.fields import Doc, Parsed
from agent.host import Host
from agent.host.postgres.alter import TableState, index_key, table_statements
from agent.host.postgres.catalog import read_idle_usage, read_referring
from agent.host.postgres.change import carry_out, planned_refusals
from agent.host.postgres.names import PUBLIC, TableName, cluster_name, one_name, quote, table_name
from agent.host.postgres.needs import server_requirements
from agent.host.postgres.spec import Foreign, TableSpec, column, index
from agent.host.postgres.statement import Statement
from agent.host.postgres.tables import Tables
from agent.resource import Change, Prefetching, Resource, State, Undoable
from agent.sources import Catalog, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresTable(Resource, Prefetching, Undoable):
    """A table of PostgreSQL with exactly these columns, constraints, indexes and grants.

    The server is the judge of equality: the declared table is made in a transaction that is undone, and what the
    catalog says of it is compared with what it says of the real one. So every spelling of a type or an expression is
    as good as another. The order of columns counts only when the table is made; names of constraints never count,
    those of indexes where they are declared. Its schema is made where it is missing, and its owner and whoever is
    granted something on the table get USAGE on the schema. Where tables refer to one another in a circle, the last of
    them that is made closes it. All of a change is one transaction, and the plan shows its SQL.

    Nothing is dropped or narrowed without `allow_destructive`, and a column is never narrowed, whatever is allowed,
    while a row holds a value that would be lost.
    """

    kind: ClassVar[str] = "postgres_table"
    reads_with: ClassVar[tuple[str, ...]] = ("psycopg",)
    undone_whole: ClassVar[bool] = True
    looks_every: ClassVar[str] = "5m"
    example: ClassVar[str] = (
        '[postgres_table."mail.public.accounts"]\nprimary_key = ["id"]\n'
        'indexes = ["lower(email)", { columns = ["made"], where = "quota > 0" }]\n\n'
        '[postgres_table."mail.public.accounts".columns]\n'
        'id = "bigint generated always as identity"\n'
        'email = { type = "varchar(320)", null = false, unique = true }\n'
        'quota = { type = "int", null = false, default = 0, check = "quota >= 0" }\n'
        'made = { type = "timestamptz", null = false, default = "now()" }\n\n'
        '[postgres_table."mail.public.accounts".grants]\nvmail = ["select"]\n\n'
        "[postgres_role.vmail]\n\n[postgres_database.mail]\n"
    )

    name: Annotated[
        str, Parsed(table_name), Doc("`database.schema.table`: each part literal, in double quotes where it has a dot")
    ]
    ensure: Annotated[Literal["present", "absent"], Doc("Whether it exists; dropping it needs `allow_destructive`")] = (
        "present"
    )
    columns: Annotated[
        dict[Annotated[str, Parsed(one_name)], Annotated[str | dict[str, Any], Parsed(column)]],
        Doc(
            "The columns in order, each its type or a table of `type` (any that CREATE TABLE takes, also "
            "`bigint generated always as identity`), `null` (true), `default` (an SQL expression, or a number or "
            "true or false), `unique`, `check` (an SQL expression) and `references` (`table(column) on delete cascade`)"
        ),
    ] = field(default_factory=dict)
    primary_key: Annotated[list[str], Doc("The columns of the primary key")] = field(default_factory=list)
    constraints: Annotated[
        list[str], Doc("Constraints over several columns, as CREATE TABLE takes them: `unique (a, b)`")
    ] = field(default_factory=list)
    indexes: Annotated[
        list[Annotated[str | dict[str, Any], Parsed(index)]],
        Doc(
            "The indexes, each a column or expression, or a table of `columns` (columns, or expressions with what "
            "CREATE INDEX takes after them), `unique`, `method` (btree), `where`, `include` and `name`"
        ),
    ] = field(default_factory=list)
    owner: Annotated[
        Annotated[str, Parsed(one_name)] | None,
        Doc("Its owner; left as it is where not given (the superuser for a new one)"),
    ] = None
    grants: Annotated[
        dict[Annotated[str, Parsed(one_name)], list[str]],
        Doc(
            "Who may do what, by role (`public` is everybody): `select`, `update (quota)`, `all`, `insert with grant "
            "option`. Exactly these: what is not declared is revoked, except from the owner. A `serial` column's "
            "sequence has grants of its own; an identity column needs none"
        ),
    ] = field(default_factory=dict)
    allow_destructive: Annotated[
        bool, Doc("Whether columns, constraints, indexes and the table may be dropped, and columns narrowed")
    ] = False
    cluster: Annotated[
        Annotated[str, Parsed(cluster_name)] | None,
        Doc('The cluster, such as `"17/main"`, or its data directory; the one that runs where not given'),
    ] = None

    def problems(self) -> Iterable[str]:
        if self.ensure == "present" and not self.columns:
            yield "columns is missing"
        if self.ensure == "absent":
            given = [key for key in ("columns", "indexes", "grants", "owner", "constraints") if getattr(self, key)]
            yield from (f'{key} has no meaning with ensure = "absent"' for key in given)
        elif missing := [name for name in self.primary_key if name not in self.columns]:
            yield f"primary_key names {', '.join(missing)}, which is no column"

    @property
    def table(self) -> TableName:
        """Its name in parts."""
        return TableName.parse(self.name)

    @property
    def spec(self) -> TableSpec:
        """What is declared of it, for the server."""
        columns = {name: column(given) for name, given in self.columns.items()}
        indexes = [index(given) for given in self.indexes]
        return TableSpec(self.table, columns, self.primary_key, self.constraints, indexes, self.owner, self.grants)

    @classmethod
    def prefetch(cls, host: Host, resources: Sequence[PostgresTable]) -> None:
        places = {(resource.cluster, resource.table.database): None for resource in resources}
        for place in places:
            specs = [each.spec for each in resources if (each.cluster, each.table.database) == place]
            with suppress(ResourceError):  # `read` of each tells of it
                host.postgres.server(place[0]).tables(place[1]).load(specs)

    def _tables(self, host: Host) -> Tables:
        return host.postgres.server(self.cluster).tables(self.table.database)

    def desired(self, host: Host) -> State | None:
        if self.ensure == "absent":
            return None
        state = self._state(self._tables(host).normal(self.spec.without(self._for_later(host))))
        del state["names"]
        if self.owner is None:
            del state["owner"]
        state["schema_usage"] = sorted(self.spec.users)
        return state

    def read(self, host: Host) -> State | None:
        server = host.postgres.server(self.cluster)
        if self.ensure == "absent" and self.table.database not in server.databases:
            return None
        tables = self._tables(host)
        raw = tables.actual(self.spec)
        if raw is None:
            return None
        return {**self._state(raw), "schema_usage": sorted(tables.schema(self.spec).users)}

    def _state(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """A table as read, its indexes called by name where they are declared so."""
        declared, names = self.spec.index_names, dict(raw["names"])
        indexes = {}
        for definition, columns in raw["indexes"].items():
            called = names.pop(f"index {definition}")
            key = index_key(definition, called, declared)
            indexes[key] = columns
            names[f"index {key}"] = called
        return {**raw, "indexes": indexes, "names": names}

    def _statements(self, host: Host, actual: TableState | None, desired: TableState | None) -> list[Statement]:
        statements = table_statements(self.table, actual, desired, self._tables(host).schema(self.spec))
        if actual is None and desired is not None:
            waiting = [(table, key) for table in self._before(host) for key in table._to(host, self)]
            statements += [
                Statement(f"ALTER TABLE {table.table.sql} ADD {key.head} {self.table.sql} {key.tail}".rstrip())
                for table, key in waiting
            ]
        return statements

    # Tables that refer to one another in a circle: the one that comes last closes it

    def _before(self, host: Host) -> list[PostgresTable]:
        """The declared tables of its database that come before it, because it needs them."""
        declared = {resource.id: resource for resource in host.declared}
        found, left = {self.id: None}, [*self.requires]
        while left:
            id = left.pop()
            if id not in found:
                found[id] = None
                left += declared[id].requires if id in declared else []
        tables = [declared[id] for id in found if id != self.id and id.startswith("postgres_table:") and id in declared]
        return [each for each in tables if (each.cluster, each.table.database) == (self.cluster, self.table.database)]

    def _to(self, host: Host, other: PostgresTable) -> list[Foreign]:
        """Its foreign keys that wait for another table."""
        place, spec = (other.table.schema, other.table.table), self.spec
        return [key for key in self._tables(host).waiting(spec) if place in spec.candidates(key)]

    def _for_later(self, host: Host) -> list[Foreign]:
        """Its foreign keys that are made with a table which comes after it, as that needs this one."""
        named = {f"postgres_table:{name}" for name in self._referred()} - {self.id}
        others = [each for each in host.declared if each.id in named] if named else []
        others = [each for each in others if any(earlier.id == self.id for earlier in each._before(host))]
        return [key for other in others for key in self._to(host, other)]

    def summary(self, host: Host, change: Change) -> str:
        statements = self._statements(host, change.actual, change.desired)
        try:
            session = self._tables(host).session
            reasons = planned_refusals(session, self.table, statements, allow=self.allow_destructive)
        except ResourceError as error:
            return error.summary
        return f"refused: {'; '.join(reasons)}" if reasons else ""

    def preview(self, host: Host, change: Change) -> Sequence[str]:
        return [statement.sql for statement in self._statements(host, change.actual, change.desired)]

    def apply(self, host: Host, change: Change) -> None:
        statements = self._statements(host, change.actual, change.desired)
        session = self._tables(host).session
        others = [*self._referred(), *(table.table for table in self._before(host))]
        carry_out(session, self.table, statements, allow=self.allow_destructive, others=others)

    def _referred(self) -> list[TableName]:
        spec = self.spec
        keys = dict.fromkeys(key for foreign in spec.foreign_keys() for key in spec.candidates(foreign))
        return [TableName(self.table.database, *key) for key in keys]

    def cannot_undo(self, host: Host, before: State | None) -> str:
        now = self.read(host)
        if now is None and before is not None:
            raise ResourceError(f"the table {self.name} was dropped; its rows were not kept")
        gone = [name for name in (before or {}).get("columns", {}) if name not in (now or {}).get("columns", {})]
        if gone:
            raise ResourceError(f"{', '.join(gone)} of {self.name} was dropped; what it held was not kept")
        return ""

    def undo(self, host: Host, before: State | None) -> None:
        """Put it back, as far as nothing that was stored since is lost. A schema that was made for it stays."""
        self.cannot_undo(host, before)
        session = self._tables(host).session
        statements = self._statements(host, self.read(host), before)
        if before is None:
            # Tables of a circle refer to one another; those that go as well need not do so any longer.
            leaving = {each.table for each in host.leaving if each.kind == self.kind and each.id != self.id}
            keys = [(name, key) for name, key in read_referring(session, self.table) if name in leaving]
            statements[-1:-1] = [
                Statement(f"ALTER TABLE {name.sql} DROP CONSTRAINT {quote(key)}") for name, key in keys
            ]
        if before is None:
            idle = read_idle_usage(session, self.table, self.spec.users)
            statements += [
                Statement(f"REVOKE USAGE ON SCHEMA {quote(self.table.schema)} FROM {quote(r)}") for r in idle
            ]
        carry_out(session, self.table, statements, allow=True, others=self._referred(), undoing=True)

    def watched(self) -> Iterable[Source]:
        return [Catalog(self.cluster, self.table.database, (self.table.schema, self.table.table))]

    def implied_requires(self) -> Iterable[str]:
        if self.ensure == "absent":
            return server_requirements(self.cluster)
        roles = [role for role in (self.owner, *self.grants) if role not in (None, PUBLIC)]
        return [
            *server_requirements(self.cluster),
            f"postgres_database:{self.table.database}",
            *(f"postgres_role:{role}" for role in roles),
            *(f"postgres_table:{name}" for name in self._referred() if name != self.table),
        ]
