"""Names and literals of PostgreSQL: how they are declared, and how they stand in SQL. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST = 63
"""Bytes of the longest name; the server would cut a longer one off without a word."""
PUBLIC = "public"
"""The grantee that stands for every role."""

_PART = r'"(?:[^"]|"")+"|[^".+]+'
_NAMES = re.compile(rf"({_PART})\.({_PART})\.({_PART})(?:\+(.+))?", re.DOTALL)
_IDENTIFIER = r'"(?:[^"]|"")+"|[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*'
_TARGET = re.compile(rf"\s*({_IDENTIFIER})(?:\s*\.\s*({_IDENTIFIER}))?")
_CLUSTER = re.compile(r"[0-9]+(\.[0-9]+)?/[^/\s]+|/[^\0]+")


def quote(name: str) -> str:
    """A name as SQL takes it literally, whatever letters it has."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str | None) -> str:
    """A text as a literal, with standard_conforming_strings on."""
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"


def one_name(text: str) -> str:
    """The name of a role, database, column…: any letters, as long as the server keeps all of it."""
    if not text or "\0" in text:
        raise ValueError("a name cannot be empty or hold a NUL")
    if len(text.encode()) > LONGEST:
        raise ValueError(f'"{text}" is longer than {LONGEST} bytes; PostgreSQL would cut it off')
    return text


def role_name(text: str) -> str:
    """The name of a role; some names are reserved by the server."""
    if text in (PUBLIC, "none") or text.startswith("pg_"):
        raise ValueError(f'"{text}" is a name that PostgreSQL reserves')
    return one_name(text)


def group_name(text: str) -> str:
    """The name of a role that others are members of: also one that the server brings, such as `pg_monitor`."""
    if text in (PUBLIC, "none"):
        raise ValueError(f'"{text}" is a name that PostgreSQL reserves; nobody is a member of it')
    return one_name(text)


def cluster_name(text: str) -> str:
    """A cluster: `VERSION/NAME` as pg_lsclusters(1) shows it, or the absolute path of its data directory."""
    if not _CLUSTER.fullmatch(text):
        raise ValueError(f'"{text}" is not a cluster: write "VERSION/NAME", such as "17/main", or its data directory')
    return text


@dataclass(frozen=True, slots=True)
class TableName:
    """A table by its database, schema and name, and the label of what is declared about it."""

    database: str
    schema: str
    table: str
    label: str = ""

    @classmethod
    def parse(cls, text: str) -> TableName:
        """`database.schema.table`, each part literal or in double quotes, `+label` after it.

        Raises ValueError for anything else.
        """
        found = _NAMES.fullmatch(text)
        if found is None:
            raise ValueError(
                f'"{text}" is not a table: write "database.schema.table"; a part that holds ".", "+" or a quote stands '
                "in double quotes"
            )
        parts = [part[1:-1].replace('""', '"') if part.startswith('"') else part for part in found.groups()[:3]]
        database, schema, table = map(one_name, parts)
        return cls(database, schema, table, found[4] or "")

    def __str__(self) -> str:
        parts = (self.database, self.schema, self.table)
        shown = ".".join(quote(part) if re.search(r'[".+]', part) else part for part in parts)
        return f"{shown}+{self.label}" if self.label else shown

    @property
    def sql(self) -> str:
        """The table in SQL."""
        return f"{quote(self.schema)}.{quote(self.table)}"


def table_name(text: str) -> str:
    """The name of a table in its one spelling."""
    name = TableName.parse(text)
    if name.label:
        raise ValueError(f'"{text}" has a label; a table is declared once, as "{TableName.parse(text)}" without it')
    return str(name)


def rows_name(text: str) -> str:
    """The name of a table in its one spelling, with a label or without."""
    return str(TableName.parse(text))


def target_of(references: str) -> tuple[str | None, str, str]:
    """The table that a REFERENCES clause begins with: schema (None where not given), name, and what follows.

    Raises ValueError where it begins with no name.
    """
    found = _TARGET.match(references)
    if found is None:
        raise ValueError(f'"{references}" does not begin with the name of a table, such as "accounts(id)"')
    parts = [_folded(part) for part in found.groups() if part]
    schema = parts[0] if len(parts) == 2 else None
    return schema, parts[-1], references[found.end() :]


def _folded(identifier: str) -> str:
    """An identifier as the server reads it: lower case (ASCII only) unless it is quoted."""
    if identifier.startswith('"'):
        return identifier[1:-1].replace('""', '"')
    return re.sub("[A-Z]", lambda letter: letter[0].lower(), identifier)


def names_in_words(names: Sequence[str]) -> str:
    """Names for a message: `a, b and 3 more`."""
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
