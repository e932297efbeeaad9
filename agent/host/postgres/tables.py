"""The tables of one database: what they are, and what the server makes of their declarations."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.errors import ResourceError
from agent.host.postgres.catalog import Key, Raw, read_born_with, read_locked, read_tables, read_usage
from agent.host.postgres.errors import LOCK_NOT_AVAILABLE, Refused
from agent.host.postgres.scratch import Scratch
from agent.host.postgres.session import Session
from agent.host.postgres.spec import Foreign, TableSpec

_AT_ONCE = 400
"""Tables made in one transaction: each takes some of the locks that a server has (max_locks_per_transaction)."""


@dataclass(frozen=True, slots=True)
class SchemaInfo:
    """Of a schema: whether it exists, which grantees may use it, and who is born with privileges on its tables."""

    exists: bool
    users: tuple[str, ...]
    born_with: tuple[str, ...]


class Tables:
    """What was read of the tables of a database.

    `forms` are normal forms from earlier in the run; new ones are added.
    """

    def __init__(self, session: Session, database: str, forms: dict[str, Raw]) -> None:
        self.session = session
        self.database = database
        self._forms = forms
        self._errors: dict[str, ResourceError] = {}
        self._actual: dict[Key, Raw | None] = {}
        self._locked: set[Key] = set()
        self._usage: set[Key] = set()
        self._asked: set[Key] = set()
        self._born_with: dict[str, list[str]] | None = None

    def load(self, specs: Sequence[TableSpec]) -> None:
        """Read all these, and normalise them, in a constant number of queries."""
        keys = {(spec.name.schema, spec.name.table) for spec in specs}
        keys |= {key for spec in specs for foreign in spec.foreign_keys() for key in spec.candidates(foreign)}
        self._read(keys)
        self._ask_usage({pair for spec in specs for pair in _pairs(spec)})
        if self._born_with is None:
            self._born_with = read_born_with(self.session)
        self._normalise(specs)

    def _read(self, keys: set[Key]) -> None:
        """Read tables. To print an expression takes the weakest lock on its table: only ACCESS EXCLUSIVE stops it."""
        wanted = keys - self._actual.keys() - self._locked
        try:
            found = read_tables(self.session, wanted)
        except Refused as error:
            if error.sqlstate != LOCK_NOT_AVAILABLE:
                raise
            self._locked |= read_locked(self.session, wanted)
            found = read_tables(self.session, wanted - self._locked)
        self._actual.update({key: found.get(key) for key in wanted - self._locked})

    def _ask_usage(self, pairs: set[Key]) -> None:
        self._usage |= read_usage(self.session, pairs - self._asked)
        self._asked |= pairs

    def _normalise(self, specs: Sequence[TableSpec]) -> None:
        known = self._forms.keys() | self._errors.keys()
        by_fingerprint = {spec.fingerprint: spec for spec in specs if spec.columns}
        new = [spec for fingerprint, spec in by_fingerprint.items() if fingerprint not in known]
        real = {key: raw for key, raw in self._actual.items() if raw is not None and "relation" not in raw}
        for start in range(0, len(new), _AT_ONCE):
            scratch = Scratch(self.session, real, self._born_with or {})
            for fingerprint, result in scratch.normal_forms(new[start : start + _AT_ONCE]).items():
                if isinstance(result, ResourceError):
                    self._errors[fingerprint] = result
                else:
                    self._forms[fingerprint] = result

    def actual(self, spec: TableSpec) -> Raw | None:
        """The table as it is; None where there is none. Raises ResourceError where it is no table."""
        key = (spec.name.schema, spec.name.table)
        if key not in self._actual and key not in self._locked:
            self.load([spec])
        if key in self._locked:
            raise self.session.locked([spec.name])
        raw = self._actual[key]
        if raw is not None and "relation" in raw:
            raise ResourceError(f"{spec.name.sql} is {raw['relation']}, not a table")
        return copy.deepcopy(raw)

    def waiting(self, spec: TableSpec) -> list[Foreign]:
        """Those of its foreign keys whose table is not there yet."""
        keys = list(spec.foreign_keys())
        if keys:
            self._read({place for key in keys for place in spec.candidates(key)})
        return [key for key in keys if not any(self._is_there(place) for place in spec.candidates(key))]

    def _is_there(self, key: Key) -> bool:
        return key in self._locked or self._actual[key] is not None

    def normal(self, spec: TableSpec) -> Raw:
        """The table as the server understands its declaration. Raises ResourceError where it does not."""
        if spec.fingerprint not in self._forms and spec.fingerprint not in self._errors:
            self.load([spec])
        if spec.fingerprint in self._errors:
            raise self._errors[spec.fingerprint]
        form: Any = copy.deepcopy(self._forms[spec.fingerprint])
        return dict(form)

    def schema(self, spec: TableSpec) -> SchemaInfo:
        """What must be known of its schema."""
        self._ask_usage(set(_pairs(spec)))
        if self._born_with is None:
            self._born_with = read_born_with(self.session)
        name = spec.name.schema
        born_with = {*self._born_with.get("", ()), *self._born_with.get(name, ())}
        return SchemaInfo(
            (name, "") in self._usage,
            tuple(role for role in spec.users if (name, role) in self._usage),
            tuple(sorted(born_with)),
        )


def _pairs(spec: TableSpec) -> list[Key]:
    return [(spec.name.schema, role) for role in ("", *spec.users)]
