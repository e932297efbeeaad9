"""The SQL that leads from one set of columns to another. Pure; columns as `catalog` reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.host.postgres.names import TableName, literal, quote
from agent.host.postgres.statement import Look, Statement
from agent.host.postgres.types import keeps_everything

Column = Mapping[str, Any]
_NUMBERING = ("INCREMENT BY 1", "NO MINVALUE", "NO MAXVALUE", "START WITH 1", "CACHE 1", "NO CYCLE")
"""How an identity column numbers where nothing else is declared."""
_SERIAL = {"smallint": "smallserial", "integer": "serial", "bigint": "bigserial"}


def column_sql(name: str, column: Column) -> str:
    """A column as CREATE TABLE and ADD COLUMN take it."""
    type = str(column["type"])
    if column.get("serial"):
        type = _SERIAL.get(type, type)
    words = [quote(name), type]
    if column.get("collation"):
        words.append(f"COLLATE {column['collation']}")
    if column.get("generated"):
        words.append(f"GENERATED ALWAYS AS {column['generated']}")
    if column.get("identity"):
        words.append(_identity(column))
    if column["default"] is not None:
        words.append(f"DEFAULT {column['default']}")
    if not column["null"]:
        words.append("NOT NULL")
    return " ".join(words)


def _identity(column: Column) -> str:
    options = f" ({' '.join(column['numbering'])})" if column.get("numbering") else ""
    return f"GENERATED {column['identity']} AS IDENTITY{options}"


def column_statements(
    name: TableName, actual: Mapping[str, Column], desired: Mapping[str, Column], names: Mapping[str, Any]
) -> Iterator[Statement]:
    """What makes the columns of an existing table the desired ones; `names` are those of its sequences."""
    start = f"ALTER TABLE {name.sql}"
    for gone in [column for column in actual if column not in desired]:
        loses = f"the column {gone} and what it holds"
        look = Look("values", gone, new=actual[gone]["default"] or "")  # its default is no loss
        yield Statement(f"{start} DROP COLUMN {quote(gone)}", loses, look)
    for column, wanted in desired.items():
        if column not in actual:
            needed = Look("rows", column) if _needs_a_value(wanted) else None
            yield Statement(f"{start} ADD COLUMN {column_sql(column, wanted)}", look=needed)
        elif actual[column] != wanted:
            sequence = names.get(f"sequence {column}")
            yield from _ColumnChange(name, column, actual[column], wanted, sequence).statements()


def _needs_a_value(column: Column) -> bool:
    given = column["default"] is not None or any(column.get(key) for key in ("generated", "identity", "serial"))
    return not column["null"] and not given


class _ColumnChange:
    """One column that is there and differs."""

    def __init__(self, name: TableName, column: str, actual: Column, desired: Column, sequence: str | None) -> None:
        self._name = name
        self._column = column
        self._quoted = quote(column)
        self._actual = actual
        self._desired = desired
        self._sequence = sequence
        self._start = f"ALTER TABLE {name.sql} ALTER COLUMN {self._quoted}"

    def _differs(self, *keys: str) -> bool:
        return any(self._actual.get(key) != self._desired.get(key) for key in keys)

    def statements(self) -> Iterator[Statement]:
        if self._desired.get("generated") and self._differs("generated"):
            yield from self._made_anew()
            return
        if self._actual.get("generated") and not self._desired.get("generated"):
            yield Statement(f"{self._start} DROP EXPRESSION")
        retyped = self._differs("type", "collation")
        yield from self._without_default(retyped)
        if retyped:
            yield from self._retyped()
        if self._differs("null") and not self._desired["null"]:
            yield Statement(f"{self._start} SET NOT NULL", look=Look("nulls", self._column))
        yield from self._with_default(retyped)
        if self._differs("null") and self._desired["null"]:
            yield Statement(f"{self._start} DROP NOT NULL")

    def _made_anew(self) -> Iterator[Statement]:
        derived = bool(self._actual.get("generated"))
        loses = "" if derived else f"what the column {self._column} holds, as it becomes a generated one"
        start = f"ALTER TABLE {self._name.sql}"
        look = None if derived else Look("values", self._column)
        yield Statement(f"{start} DROP COLUMN {self._quoted}", loses, look)
        yield Statement(f"{start} ADD COLUMN {column_sql(self._column, self._desired)}")

    def _without_default(self, retyped: bool) -> Iterator[Statement]:
        """A default goes first: the server cannot convert each of them to another type."""
        if self._actual["default"] is not None and (retyped or self._desired["default"] is None):
            yield Statement(f"{self._start} DROP DEFAULT")
        if self._actual.get("identity") and not self._desired.get("identity"):
            yield Statement(f"{self._start} DROP IDENTITY")
        if self._actual.get("serial") and not self._desired.get("serial"):
            yield Statement(f"{self._start} DROP DEFAULT")
            yield Statement(f"DROP SEQUENCE {self._sequence}")

    def _retyped(self) -> Iterator[Statement]:
        old, new = self._actual["type"], self._desired["type"]
        collation = f" COLLATE {self._desired['collation']}" if self._desired.get("collation") else ""
        if old == new or keeps_everything(old, new):
            using = f" USING {self._quoted}::{new}" if (old, new) == ("json", "jsonb") else ""
            yield Statement(f"{self._start} TYPE {new}{collation}{using}")
        else:
            loses = f"what of the column {self._column} ({old}) does not fit {new}"
            look = Look("cast", self._column, old, new)
            yield Statement(f"{self._start} TYPE {new}{collation} USING {self._quoted}::{new}", loses, look)
        if self._actual.get("serial") and self._desired.get("serial") and old != new:
            yield Statement(f"ALTER SEQUENCE {self._sequence} AS {new}")

    def _with_default(self, retyped: bool) -> Iterator[Statement]:
        default = self._desired["default"]
        if default is not None and (retyped or self._actual["default"] != default):
            yield Statement(f"{self._start} SET DEFAULT {default}")
        identity = self._desired.get("identity")
        if identity and not self._actual.get("identity"):
            yield Statement(f"{self._start} ADD {_identity(self._desired)}")
            yield self._continued(f"pg_get_serial_sequence({literal(self._name.sql)}, {literal(self._column)})")
        elif identity and self._differs("identity"):
            yield Statement(f"{self._start} SET GENERATED {identity}")
        if identity and self._actual.get("identity") and self._differs("numbering"):
            options = self._desired.get("numbering") or _NUMBERING
            yield Statement(" ".join([self._start, *(f"SET {option}" for option in options)]))
        if self._desired.get("serial") and not self._actual.get("serial"):
            yield from self._made_serial()

    def _made_serial(self) -> Iterator[Statement]:
        sequence = f"{quote(self._name.schema)}.{quote(f'{self._name.table}_{self._column}_seq'[:63])}"
        place = f"{self._name.sql}.{self._quoted}"
        yield Statement(f"CREATE SEQUENCE {sequence} AS {self._desired['type']} OWNED BY {place}")
        yield Statement(f"{self._start} SET DEFAULT nextval({literal(sequence)}::regclass)")
        yield self._continued(literal(sequence))

    def _continued(self, sequence: str) -> Statement:
        """A new sequence goes on after the last value that is there, in the direction in which it counts."""
        options = self._desired.get("numbering") or _NUMBERING
        step, start = options[0].rpartition(" ")[2], options[3].rpartition(" ")[2]
        further, last = ("least", "min") if step.startswith("-") else ("greatest", "max")
        number = f"{further}({last}({self._quoted}) + {step}, {start})"
        return Statement(f"SELECT setval({sequence}, {number}, false) FROM {self._name.sql}")
