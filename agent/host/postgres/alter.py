"""The SQL that leads from one state of a table to another. Pure; states as `catalog` reads them.

What it makes is what a plan shows and what is carried out: there is no second way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent.host.postgres.catalog import WITH_GRANT_OPTION
from agent.host.postgres.columns import column_sql, column_statements
from agent.host.postgres.names import TableName, quote
from agent.host.postgres.spec import grantee
from agent.host.postgres.statement import Look, Statement
from agent.host.postgres.tables import SchemaInfo

TableState = Mapping[str, Any]
_ORDER = ("PRIMARY KEY", "UNIQUE", "EXCLUDE", "CHECK", "FOREIGN KEY")
_NOT_VALID = " NOT VALID"
_NAMED_INDEX = re.compile(r'("(?:[^"]|"")+"): (.*)', re.DOTALL)


def table_statements(
    name: TableName, actual: TableState | None, desired: TableState | None, schema: SchemaInfo
) -> list[Statement]:
    """What makes a table that is `actual` into one that is `desired`; None is a table that is not there."""
    if desired is None:
        loses = f"the table {name.sql} with its rows"
        return [] if actual is None else [Statement(f"DROP TABLE {name.sql}", loses, Look("values", ""))]
    if actual is None:
        return [*_creation(name, desired, schema), *_usage(name, desired, schema)]
    names = actual.get("names", {})
    after = {**actual, **desired}
    columns = list(column_statements(name, actual["columns"], after["columns"], names))
    statements = [
        *_dropped(name, actual, after),
        *columns,
        *_added(name, actual, after),
        *_owner(name, actual, after),
        *_grants(name, actual["grants"], after["grants"], after["owner"], names),
        *_usage(name, desired, schema),
    ]
    if any(statement.look for statement in statements):
        statements.insert(0, Statement(f"LOCK TABLE {name.sql} IN ACCESS EXCLUSIVE MODE"))
    return statements


def _creation(name: TableName, desired: TableState, schema: SchemaInfo) -> Iterator[Statement]:
    if not schema.exists:
        yield Statement(f"CREATE SCHEMA {quote(name.schema)}")
    lines = [column_sql(column, given) for column, given in desired["columns"].items()]
    lines += _sorted(desired["constraints"])
    yield Statement(f"CREATE TABLE {name.sql} (\n  " + ",\n  ".join(lines) + "\n)")
    yield from (_create_index(name, index) for index in desired["indexes"])
    if "owner" in desired:
        yield Statement(f"ALTER TABLE {name.sql} OWNER TO {quote(desired['owner'])}")
    for role in schema.born_with:
        yield Statement(f"REVOKE ALL ON TABLE {name.sql} FROM {grantee(role)}")
    yield from _grants(name, {}, desired["grants"], desired.get("owner"), {})


def _sorted(constraints: Mapping[str, str]) -> list[str]:
    return sorted(constraints, key=lambda text: next((i for i, word in enumerate(_ORDER) if text.startswith(word)), 9))


def index_key(index: str, names: Sequence[str], declared: Sequence[str]) -> str:
    """How an index stands in a state: by its definition, with its name before it where it was declared with one."""
    named = next((name for name in names if name in declared), None)
    return index if named is None else f"{quote(named)}: {index}"


def split_index(key: str) -> tuple[str, str]:
    """The quoted name ("" where it has none) and the definition of an index as it stands in a state."""
    found = _NAMED_INDEX.fullmatch(key)
    return (found[1], found[2]) if found else ("", key)


def _create_index(name: TableName, index: str) -> Statement:
    named, definition = split_index(index)
    unique = "UNIQUE " if definition.startswith("UNIQUE ") else ""
    words = f"CREATE {unique}INDEX {named + ' ' if named else ''}ON {name.sql} {definition.removeprefix('UNIQUE ')}"
    return Statement(words)


def _dropped(name: TableName, actual: TableState, after: TableState) -> Iterator[Statement]:
    """Constraints and indexes that are not declared. One replaced, or gone with its column, is no loss."""
    gone_columns = actual["columns"].keys() - after["columns"].keys()
    for kind, word in (("constraints", "constraint"), ("indexes", "index")):
        old, new = actual[kind], after[kind]
        for definition in reversed(_sorted(old.keys() - new.keys())):
            if definition.endswith(_NOT_VALID) and definition.removesuffix(_NOT_VALID) in new:
                continue
            goes_along = gone_columns.intersection(old[definition].split(", "))
            free = goes_along or definition.endswith("(invalid)") or _is_replaced(definition, old, new)
            for each in _names(actual, word, definition):
                yield Statement(_drop(name, word, each), "" if free else f"the {word} {definition}")


def _is_replaced(definition: str, old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    """Whether another one of the same sort, on the same columns or of the same name, comes for it."""
    index_name = split_index(definition)[0]
    return any(
        (_kind(text) == _kind(definition) and new[text] == old[definition])
        or (index_name and split_index(text)[0] == index_name)
        for text in new
        if text not in old
    )


def _drop(name: TableName, word: str, each: str) -> str:
    if word == "index":
        return f"DROP INDEX {quote(name.schema)}.{quote(each)}"
    return f"ALTER TABLE {name.sql} DROP CONSTRAINT {quote(each)}"


def _names(actual: TableState, word: str, definition: str) -> Sequence[str]:
    found = actual["names"][f"{word} {definition}"]
    return [found] if isinstance(found, str) else found


def _kind(definition: str) -> str:
    bare = split_index(definition)[1]
    return next((word for word in _ORDER if bare.startswith(word)), "")


def _added(name: TableName, actual: TableState, after: TableState) -> Iterator[Statement]:
    for definition in _sorted(after["constraints"]):
        if definition in actual["constraints"]:
            continue
        if definition + _NOT_VALID in actual["constraints"]:
            constraint = actual["names"][f"constraint {definition}{_NOT_VALID}"]
            yield Statement(f"ALTER TABLE {name.sql} VALIDATE CONSTRAINT {quote(constraint)}")
        else:
            yield Statement(f"ALTER TABLE {name.sql} ADD {definition}")
    for index in after["indexes"]:
        if index not in actual["indexes"]:
            yield _create_index(name, index)


def _owner(name: TableName, actual: TableState, after: TableState) -> Iterator[Statement]:
    if actual["owner"] != after["owner"]:
        yield Statement(f"ALTER TABLE {name.sql} OWNER TO {quote(after['owner'])}")


def _grants(
    name: TableName,
    actual: Mapping[str, Sequence[str]],
    desired: Mapping[str, Sequence[str]],
    owner: str | None,
    names: Mapping[str, Any],
) -> Iterator[Statement]:
    revoked: dict[tuple[str, str, str], list[str]] = {}
    for role in actual:
        for held in actual[role] if role != owner else ():
            wanted = desired.get(role, ())
            bare = held.removesuffix(WITH_GRANT_OPTION)
            if held not in wanted and (bare != held or bare + WITH_GRANT_OPTION not in wanted):
                option = "GRANT OPTION FOR " if bare in wanted else ""
                for grantor in names.get(f"grantors {role} {bare}", [""]):
                    revoked.setdefault((grantor, option, role), []).append(bare)
    yield from (Statement(_revoke(name, *key, privileges)) for key, privileges in revoked.items())
    # To revoke a privilege on the table takes those on its columns along, and a grant option what was granted on by it.
    at_risk = (held.endswith(WITH_GRANT_OPTION) or "(" in held for role in actual for held in actual[role])
    again = bool(revoked) and any(at_risk)
    granted: dict[tuple[str, str], list[str]] = {}
    for role, privileges in desired.items():
        for privilege in privileges:
            if again or privilege not in actual.get(role, ()):
                bare = privilege.removesuffix(WITH_GRANT_OPTION)
                granted.setdefault((role, WITH_GRANT_OPTION if bare != privilege else ""), []).append(bare)
    for (role, suffix), bares in granted.items():
        yield Statement(f"GRANT {', '.join(bares)} ON TABLE {name.sql} TO {grantee(role)}{suffix}")


def _revoke(name: TableName, grantor: str, option: str, role: str, privileges: Sequence[str]) -> str:
    """A privilege can only be revoked as the one who granted it; "" is the owner, for whom a superuser acts.

    What was granted on by the one who loses a grant option goes with it (CASCADE), and what is declared comes back.
    """
    revoke = f"REVOKE {option}{', '.join(privileges)} ON TABLE {name.sql} FROM {grantee(role)} CASCADE"
    return f"SET LOCAL ROLE {quote(grantor)}; {revoke}; RESET ROLE" if grantor else revoke


def _usage(name: TableName, desired: TableState, schema: SchemaInfo) -> Iterator[Statement]:
    """Whoever was granted something on a table can only use it with USAGE on its schema."""
    for role in desired.get("schema_usage", ()):
        if role not in schema.users:
            yield Statement(f"GRANT USAGE ON SCHEMA {quote(name.schema)} TO {grantee(role)}")
