"""The SQL that adds, changes and deletes rows: one form to be shown, one to be carried out, made from the same parts.

A value that must not be seen goes as a parameter, which no log of the server holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.host.postgres.names import TableName, literal, quote
from agent.host.postgres.session import Session
from agent.secret import REDACTED

Texts = dict[str, str | None]
"""Values by column, as the output of the column's type; None is NULL."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value in a statement."""

    text: str | None = field(repr=False)
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class RowStatement:
    """A statement in parts: SQL as it stands, and values."""

    parts: Sequence[str | Value]

    @property
    def shown(self) -> str:
        """As a plan shows it."""
        return "".join(
            part if isinstance(part, str) else literal(REDACTED if part.hidden else part.text) for part in self.parts
        )

    def rows(self, session: Session, *, hidden: bool = False) -> list[tuple[Any, ...]]:
        """Carry it out; with `hidden` an error repeats no value."""
        sql = "".join(part.replace("%", "%%") if isinstance(part, str) else "%s" for part in self.parts)
        values = [part.text for part in self.parts if isinstance(part, Value)]
        return session.rows(sql if values else sql.replace("%%", "%"), values, hidden=hidden)


class Upsert:
    """Makes the statements for one table. `always` are columns GENERATED ALWAYS AS IDENTITY."""

    def __init__(self, name: TableName, key: Sequence[str], hidden: frozenset[str], always: frozenset[str]) -> None:
        self._table = name.sql
        self._key = key
        self._hidden = hidden
        self._always = always

    def _value(self, column: str, text: str | None) -> Value:
        return Value(text, column in self._hidden)

    def _separated(self, separator: str, items: Sequence[Sequence[str | Value]]) -> Iterator[str | Value]:
        for number, item in enumerate(items):
            if number:
                yield separator
            yield from item

    def _where(self, row: Mapping[str, str | None]) -> Iterator[str | Value]:
        yield " WHERE "
        yield from self._separated(" AND ", [(f"{quote(key)} = ", self._value(key, row[key])) for key in self._key])

    def insert(self, row: Mapping[str, str | None]) -> RowStatement:
        """Add a row."""
        columns = ", ".join(map(quote, row))
        overriding = " OVERRIDING SYSTEM VALUE" if self._always.intersection(row) else ""
        values = self._separated(", ", [(self._value(column, text),) for column, text in row.items()])
        return RowStatement((f"INSERT INTO {self._table} ({columns}){overriding} VALUES (", *values, ")"))

    def update(self, row: Mapping[str, str | None], differing: Mapping[str, str | None]) -> RowStatement:
        """Change what differs."""
        items = [(f"{quote(column)} = ", self._value(column, text)) for column, text in differing.items()]
        return RowStatement((f"UPDATE {self._table} SET ", *self._separated(", ", items), *self._where(row)))

    def delete(self, row: Mapping[str, str | None]) -> RowStatement:
        """Delete a row."""
        return RowStatement((f"DELETE FROM {self._table}", *self._where(row)))

    def delete_others(self, rows: Sequence[Mapping[str, str | None]]) -> RowStatement:
        """Delete all rows but these; one whose key is NULL is none of them."""
        if not rows:
            return RowStatement((f"DELETE FROM {self._table}",))
        keys = [
            ("(", *self._separated(", ", [(self._value(key, row[key]),) for key in self._key]), ")") for row in rows
        ]
        columns = ", ".join(map(quote, self._key))
        start = f"DELETE FROM {self._table} WHERE (({columns}) IN ("
        return RowStatement((start, *self._separated(", ", keys), ")) IS NOT TRUE"))
