"""What the server makes of declared tables: they are made in schemas of their own, read back, and never committed.

So nothing here knows that `int4` is `integer`, how an expression is printed or which constraint a word stands for. The
transaction is always undone; it locks none of the real tables, fires no event trigger and sends no notification.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent.errors import Missing, ResourceError
from agent.host.postgres.catalog import Key, Raw, read_tables
from agent.host.postgres.names import quote
from agent.host.postgres.session import Session
from agent.host.postgres.spec import TableSpec, grantee

_BEGIN = "SET LOCAL session_replication_role = replica; SET LOCAL statement_timeout = '120s'"
Results = dict[str, Raw | ResourceError]
"""The normal form of a declaration by its fingerprint, or what is wrong with it."""


class Scratch:
    """One throw-away transaction for many tables of a database. `real` are those that exist, `born_with` as read."""

    def __init__(self, session: Session, real: Mapping[Key, Raw], born_with: Mapping[str, Sequence[str]]) -> None:
        self._session = session
        self._real = real
        self._born_with = born_with.get("", ())
        self._schemas: dict[str, str] = {}
        self._prefix = f"state_agent_{secrets.token_hex(4)}"
        self._copied: set[Key] = set()

    def normal_forms(self, specs: Sequence[TableSpec]) -> Results:
        """The normal form of each, or its error."""
        if not specs:
            return {}
        for spec in specs:
            self._schema(spec.name.schema)
        declared = {(spec.name.schema, spec.name.table) for spec in specs}
        first = {spec.fingerprint: "; ".join(self._making(spec)) for spec in specs}
        second, errors = self._second(specs, declared)
        with self._session.transaction(keep=False):
            self._session.run(_BEGIN)
            self._session.run("; ".join(f"CREATE SCHEMA {schema}" for schema in self._schemas.values()))
            self._all(specs, first, errors)
            self._all(specs, second, errors)
            return self._read(specs, errors)

    def _schema(self, real: str) -> str:
        return self._schemas.setdefault(real, f"{self._prefix}_{len(self._schemas)}")

    def _place(self, key: Key) -> str:
        return f"{self._schema(key[0])}.{quote(key[1])}"

    def _making(self, spec: TableSpec) -> Iterator[str]:
        """The table with all but its foreign keys. Names in it mean what they mean in its real schema."""
        key = (spec.name.schema, spec.name.table)
        place = self._place(key)
        yield f"SET LOCAL search_path = {_path(spec)}"
        yield spec.creation(place)
        yield from spec.index_statements(place)
        yield from (f"REVOKE ALL ON TABLE {place} FROM {grantee(role)}" for role in self._born_with)
        owner = spec.owner or self._real.get(key, {}).get("owner")
        if owner is not None:
            yield f"ALTER TABLE {place} OWNER TO {quote(owner)}"
        yield from spec.grant_statements(place)
        yield "SET LOCAL search_path = ''"

    def _second(self, specs: Sequence[TableSpec], declared: set[Key]) -> tuple[dict[str, str], Results]:
        """What comes once all tables are there: foreign keys. A table that is not declared is copied, without rows."""
        statements: dict[str, str] = {}
        errors: Results = {}
        for spec in specs:
            try:
                statements[spec.fingerprint] = "; ".join(self._foreign(spec, declared))
            except ResourceError as error:
                errors[spec.fingerprint] = error
        return statements, errors

    def _foreign(self, spec: TableSpec, declared: set[Key]) -> Iterator[str]:
        place = self._place((spec.name.schema, spec.name.table))
        for key in spec.foreign_keys():
            candidates = spec.candidates(key)
            target = next((each for each in candidates if each in declared or each in self._real), None)
            if target is None:
                raise Missing(f"the table {'.'.join(candidates[0])} that it refers to does not exist")
            if target not in declared and target not in self._copied:
                self._copied.add(target)
                yield self._copy(target)
            yield f"ALTER TABLE {place} ADD {key.head} {self._place(target)} {key.tail}"

    def _copy(self, key: Key) -> str:
        raw = self._real[key]
        lines = [f"{quote(name)} {column['type']}" for name, column in raw["columns"].items()]
        lines += [text for text in raw["constraints"] if text.startswith(("PRIMARY KEY", "UNIQUE"))]
        return f"CREATE TABLE {self._place(key)} ({', '.join(lines)})"

    def _all(self, specs: Sequence[TableSpec], statements: Mapping[str, str], errors: Results) -> None:
        """Carry all out at once; where that fails, one after another, so that it is known which are wrong."""
        left = [spec for spec in specs if spec.fingerprint not in errors and statements.get(spec.fingerprint)]
        if not left:
            return
        self._session.run("SAVEPOINT all_at_once")
        try:
            self._session.run("; ".join(statements[spec.fingerprint] for spec in left))
        except ResourceError as error:
            self._session.run("ROLLBACK TO all_at_once")
            if len(left) == 1:
                errors[left[0].fingerprint] = error
                return
        else:
            return
        for spec in left:
            self._all([spec], statements, errors)

    def _read(self, specs: Sequence[TableSpec], errors: Results) -> Results:
        names = (list(self._schemas),)
        quoted = dict(self._session.rows("SELECT s, quote_ident(s) FROM unnest(%s::text[]) AS s", names))
        back = {f"{scratch}.": f"{quoted[real]}." for real, scratch in self._schemas.items()}
        keys = {(self._schemas[spec.name.schema], spec.name.table): spec for spec in specs}
        for error in errors.values():
            if isinstance(error, ResourceError):
                error.summary, error.detail = _renamed([error.summary, error.detail], back)
        results: Results = dict(errors)
        for key, raw in read_tables(self._session, keys).items():
            if keys[key].fingerprint not in errors:
                results[keys[key].fingerprint] = _renamed(raw, back)
        return results


def _path(spec: TableSpec) -> str:
    return ", ".join(map(quote, dict.fromkeys([spec.name.schema, "public"])))


def _renamed(value: Any, back: Mapping[str, str]) -> Any:
    """The same value with the real schema in the place of the scratch one, whose name nothing else can hold."""
    if isinstance(value, dict):
        return {_renamed(key, back): _renamed(item, back) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, back) for item in value]
    if isinstance(value, str) and "state_agent_" in value:
        for scratch, real in back.items():
            value = value.replace(scratch, real)
    return value
