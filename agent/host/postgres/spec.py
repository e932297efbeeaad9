"""A table as it is declared, and the SQL that makes it as such. Pure: the server is the judge of what it means."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agent.host.postgres.names import PUBLIC, TableName, one_name, quote, target_of
from agent.secret import SecretText

_FOREIGN = re.compile(r"(.*?\bforeign\s+key\s*\([^)]*\)\s*references\b)(.*)", re.IGNORECASE | re.DOTALL)
_GRANT_OPTION = re.compile(r"\s+with\s+grant\s+option\s*$", re.IGNORECASE)


_COLUMN = {"type": str, "null": bool, "default": str | bool | int | float, "unique": bool, "check": str,
           "references": str}  # fmt: skip
_INDEX = {"columns": list, "unique": bool, "method": str, "where": str, "include": list, "name": str}


def column(given: str | dict[str, Any]) -> dict[str, Any]:
    """One column: a table of what it has, or its type alone."""
    table = {"type": given} if isinstance(given, str) else given
    _check_keys(table, _COLUMN, "a column")
    if not str(table.get("type", "")).strip():
        raise ValueError('its type is missing: write type = "text", or another type of PostgreSQL')
    if re.search(r"\breferences\b", table["type"], re.IGNORECASE):
        raise ValueError('a foreign key stands beside its type: references = "accounts(id)"')
    if table.get("references"):
        target_of(table["references"])
    return table


def index(given: str | dict[str, Any]) -> dict[str, Any]:
    """One index: a table of what it has, or its one column or expression."""
    table = {"columns": [given]} if isinstance(given, str) else given
    _check_keys(table, _INDEX, "an index")
    for key in ("columns", "include"):
        if not all(isinstance(each, str) and each.strip() for each in table.get(key, ())):
            raise ValueError(f"{key} of an index is a list of columns or expressions")
    if not table.get("columns"):
        raise ValueError('its columns are missing: write columns = ["email"]')
    if "name" in table:
        one_name(str(table["name"]))
    return table


def _check_keys(table: Mapping[str, Any], known: Mapping[str, Any], what: str) -> None:
    for key, value in table.items():
        if key not in known:
            raise ValueError(f'{what} has no "{key}"; it has {", ".join(known)}')
        if isinstance(value, SecretText):
            raise ValueError(f"{key}: a secret cannot stand here, as everybody can read a table's definition")
        if not isinstance(value, known[key]) or (known[key] is str and isinstance(value, bool)):
            raise ValueError(f"{key} of {what} has the wrong type; see `agent docs postgres_table`")


@dataclass(frozen=True, slots=True)
class Foreign:
    """A foreign key: what stands before the table that it refers to, that table as written, and what follows."""

    head: str
    schema: str | None
    table: str
    tail: str


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table as declared; types, expressions and constraints stand in the declarer's own words."""

    name: TableName
    columns: Mapping[str, Mapping[str, Any]]
    primary_key: Sequence[str] = ()
    constraints: Sequence[str] = ()
    indexes: Sequence[Mapping[str, Any]] = ()
    owner: str | None = None
    grants: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Equal for equal declarations."""
        return repr(self)

    @property
    def index_names(self) -> tuple[str, ...]:
        """The names of those indexes that are declared with one."""
        return tuple(index["name"] for index in self.indexes if "name" in index)

    @property
    def users(self) -> tuple[str, ...]:
        """Who needs its schema: its owner, as whom foreign keys are checked, and those with privileges on it."""
        return tuple(dict.fromkeys([*([self.owner] if self.owner else []), *self.grants]))

    def foreign_keys(self) -> Iterator[Foreign]:
        """Its foreign keys, those of columns first."""
        for name, column in self.columns.items():
            yield from _of_column(name, column)
        for text in self.constraints:
            yield from _of_constraint(text)

    def without(self, keys: Collection[Foreign]) -> TableSpec:
        """The same table without these foreign keys."""
        columns = {
            name: {**given, "references": ""} if any(key in keys for key in _of_column(name, given)) else given
            for name, given in self.columns.items()
        }
        constraints = [text for text in self.constraints if not any(key in keys for key in _of_constraint(text))]
        return replace(self, columns=columns, constraints=constraints)

    def candidates(self, key: Foreign) -> list[tuple[str, str]]:
        """The tables that a foreign key can mean, as schema and table; the first that exists is meant."""
        schemas = [key.schema] if key.schema is not None else list(dict.fromkeys([self.name.schema, "public"]))
        return [(schema, key.table) for schema in schemas]

    def creation(self, place: str) -> str:
        """CREATE TABLE without foreign keys, each column and constraint on a line of its own."""
        lines = [self._column(name, column) for name, column in self.columns.items()]
        if self.primary_key:
            lines.append(f"PRIMARY KEY ({', '.join(map(quote, self.primary_key))})")
        lines += [text for text in self.constraints if not _FOREIGN.fullmatch(text)]
        return f"CREATE TABLE {place} (\n" + ",\n".join(lines) + "\n)"

    def _column(self, name: str, column: Mapping[str, Any]) -> str:
        words = [quote(name), column["type"]]
        if column.get("default") is not None:
            words.append(f"DEFAULT ({_expression(column['default'])})")
        if column.get("null") is False:
            words.append("NOT NULL")
        if column.get("unique"):
            words.append("UNIQUE")
        if column.get("check"):
            words.append(f"CHECK ({column['check']})")
        return " ".join(words)

    def index_statements(self, place: str) -> Iterator[str]:
        """CREATE INDEX for each."""
        for index in self.indexes:
            words = ["CREATE UNIQUE INDEX" if index.get("unique") else "CREATE INDEX"]
            if "name" in index:
                words.append(quote(index["name"]))
            words += [f"ON {place} USING {index.get('method', 'btree')}", f"({self._listed(index['columns'])})"]
            if index.get("include"):
                words.append(f"INCLUDE ({self._listed(index['include'])})")
            if index.get("where"):
                words.append(f"WHERE ({index['where']})")
            yield " ".join(words)

    def _listed(self, columns: Sequence[str]) -> str:
        return ", ".join(quote(each) if each in self.columns else each for each in columns)

    def grant_statements(self, place: str) -> Iterator[str]:
        """GRANT for each privilege."""
        for role, privileges in self.grants.items():
            for privilege in privileges:
                bare = _GRANT_OPTION.sub("", privilege)
                option = " WITH GRANT OPTION" if bare != privilege else ""
                yield f"GRANT {bare} ON TABLE {place} TO {grantee(role)}{option}"


def _of_column(name: str, column: Mapping[str, Any]) -> Iterator[Foreign]:
    if column.get("references"):
        schema, table, tail = target_of(column["references"])
        yield Foreign(f"FOREIGN KEY ({quote(name)}) REFERENCES", schema, table, tail)


def _of_constraint(text: str) -> Iterator[Foreign]:
    found = _FOREIGN.fullmatch(text)
    if found:
        yield Foreign(found[1], *target_of(found[2]))


def grantee(role: str) -> str:
    """A role as GRANT takes it."""
    return "PUBLIC" if role == PUBLIC else quote(role)


def _expression(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
