"""The catalog's own description of tables, many in a constant number of queries.

A table reads as a state of plain values: `owner`, `columns` (by name, in order), `constraints` and `indexes` (by the
definition that the server prints, each with the columns that it is about), `grants` (by role, without those of the
owner), and `names`, which says what the server calls all these and is never compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.host.postgres.names import PUBLIC, TableName, literal
from agent.host.postgres.session import Session

Raw = dict[str, Any]
Key = tuple[str, str]
"""Schema and table."""

_TABLES = """
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, pg_get_userbyid(c.relowner)::text
FROM unnest(%s::text[], %s::text[]) AS w(s, t)
JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t
"""
# A default has no columns in it, so it needs no table to be printed; with one, newer servers lock it (AccessShareLock).
_COLUMNS = """
SELECT a.attrelid, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text,
  a.attgenerated::text, pg_get_expr(d.adbin, CASE WHEN a.attgenerated = '' THEN 0 ELSE d.adrelid END),
  CASE WHEN a.attcollation <> t.typcollation THEN
    (SELECT quote_ident(n.nspname) || '.' || quote_ident(o.collname)
     FROM pg_collation o JOIN pg_namespace n ON n.oid = o.collnamespace WHERE o.oid = a.attcollation) END,
  (SELECT quote_ident(n.nspname) || '.' || quote_ident(s.relname)
   FROM pg_depend p JOIN pg_class s ON s.oid = p.objid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace
   WHERE p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass AND p.deptype = 'a'
     AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum ORDER BY s.oid LIMIT 1),
  CASE WHEN a.attidentity <> '' THEN
    (SELECT ARRAY['INCREMENT BY ' || q.seqincrement, 'MINVALUE ' || q.seqmin, 'MAXVALUE ' || q.seqmax,
       'START WITH ' || q.seqstart, 'CACHE ' || q.seqcache, CASE WHEN q.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END]
     FROM pg_depend p JOIN pg_sequence q ON q.seqrelid = p.objid
     WHERE p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass AND p.deptype = 'i'
       AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum
       AND (q.seqincrement, q.seqmin, q.seqstart, q.seqcache, q.seqcycle, q.seqmax) <> (1, 1, 1, 1, false,
         CASE q.seqtypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647
           ELSE 9223372036854775807 END)) END
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY(%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum
"""
_CONSTRAINTS = """
SELECT c.conrelid, c.conname::text, pg_get_constraintdef(c.oid),
  (SELECT string_agg(a.attname, ', ' ORDER BY a.attname) FROM pg_attribute a
   WHERE a.attrelid = c.conrelid AND a.attnum = ANY(c.conkey))
FROM pg_constraint c WHERE c.conrelid = ANY(%s::oid[]) AND c.contype IN ('p', 'u', 'c', 'f', 'x')
ORDER BY c.conrelid, c.conname
"""
_INDEXES = """
SELECT i.indrelid, x.relname::text, i.indisvalid, CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END ||
  substr(pg_get_indexdef(i.indexrelid), 1 + length('CREATE ' || CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END
    || 'INDEX ' || quote_ident(x.relname) || ' ON ' || CASE WHEN x.relkind = 'I' THEN 'ONLY ' ELSE '' END
    || quote_ident(n.nspname) || '.' || quote_ident(c.relname) || ' ')),
  (SELECT string_agg(a.attname, ', ' ORDER BY a.attname) FROM pg_attribute a
   WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) AND a.attnum > 0)
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = ANY(%s::oid[]) AND NOT EXISTS (
  SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
ORDER BY i.indrelid, x.relname
"""
# A NULL acl stands for acldefault(): the owner has all, and nobody else anything (section 5.8 of the manual).
_GRANTS = """
SELECT o.oid, coalesce(g.rolname::text, 'public'), o.column_name, x.privilege_type, x.is_grantable,
  CASE WHEN x.grantor <> o.owner THEN pg_get_userbyid(x.grantor)::text ELSE '' END
FROM (
  SELECT c.oid, c.relowner AS owner, NULL::text AS column_name, coalesce(c.relacl, acldefault('r', c.relowner)) AS acl
  FROM pg_class c WHERE c.oid = ANY(%s::oid[])
  UNION ALL
  SELECT c.oid, c.relowner, quote_ident(a.attname), a.attacl FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
  WHERE c.oid = ANY(%s::oid[]) AND a.attacl IS NOT NULL AND NOT a.attisdropped
) AS o, aclexplode(o.acl) AS x LEFT JOIN pg_roles g ON g.oid = x.grantee
WHERE x.grantee <> o.owner
"""
_IDENTITY = {"a": "ALWAYS", "d": "BY DEFAULT"}
_RELATIONS = {
    "v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "i": "an index",
    "c": "a composite type", "I": "an index",
}  # fmt: skip
WITH_GRANT_OPTION = " WITH GRANT OPTION"


def read_tables(session: Session, keys: Iterable[Key]) -> dict[Key, Raw]:
    """Those of these tables that exist. What has the name and is no table has a `relation` that says what it is."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    rows = session.rows(_TABLES, ([schema for schema, _ in wanted], [table for _, table in wanted]))
    found: dict[Key, Raw] = {}
    by_oid: dict[int, Raw] = {}
    for oid, schema, table, relkind, owner in rows:
        raw = found[schema, table] = {"owner": owner, "columns": {}, "constraints": {}, "indexes": {}, "grants": {},
                                      "names": {}}  # fmt: skip
        if relkind in _RELATIONS:
            raw["relation"] = _RELATIONS[relkind]
        else:
            by_oid[oid] = raw
    if by_oid:
        _fill(session, by_oid)
    return found


def _fill(session: Session, by_oid: Mapping[int, Raw]) -> None:
    oids = list(by_oid)
    for oid, *column in session.rows(_COLUMNS, (oids,)):
        _add_column(by_oid[oid], column)
    for oid, name, definition, columns in session.rows(_CONSTRAINTS, (oids,)):
        by_oid[oid]["constraints"].setdefault(definition, columns or "")
        by_oid[oid]["names"].setdefault(f"constraint {definition}", name)
    for oid, name, valid, definition, columns in session.rows(_INDEXES, (oids,)):
        key = definition if valid else f"{definition} (invalid)"
        by_oid[oid]["indexes"].setdefault(key, columns or "")
        by_oid[oid]["names"].setdefault(f"index {key}", []).append(name)
    for oid, role, column, privilege, grantable, grantor in session.rows(_GRANTS, (oids, oids)):
        _add_grant(by_oid[oid], role, privilege if column is None else f"{privilege} ({column})", grantable, grantor)
    for raw in by_oid.values():
        raw["grants"] = {role: sorted(raw["grants"][role]) for role in sorted(raw["grants"])}


def _add_column(raw: Raw, values: Sequence[Any]) -> None:
    name, type, not_null, identity, generated, expression, collation, sequence, numbering = values
    column: dict[str, Any] = {"type": type, "null": not not_null, "default": None}
    if generated:
        column["generated"] = f"({expression}) {'STORED' if generated == 's' else 'VIRTUAL'}"
    elif sequence is not None and expression == f"nextval({literal(sequence)}::regclass)":
        column["serial"] = True
        raw["names"][f"sequence {name}"] = sequence
    else:
        column["default"] = expression
    if identity:
        column["identity"] = _IDENTITY[identity]
    if numbering:
        column["numbering"] = numbering
    if collation is not None:
        column["collation"] = collation
    raw["columns"][name] = column


def _add_grant(raw: Raw, role: str, privilege: str, grantable: bool, grantor: str) -> None:
    """Note a privilege; of two grantors the better grant counts."""
    held = raw["grants"].setdefault(role, [])
    with_option = privilege + WITH_GRANT_OPTION
    if grantable and privilege in held:
        held.remove(privilege)
    if with_option not in held and privilege not in held:
        held.append(with_option if grantable else privilege)
    raw["names"].setdefault(f"grantors {role} {privilege}", []).append(grantor)


_LOCKED = """
SELECT n.nspname::text, c.relname::text FROM unnest(%s::text[], %s::text[]) AS w(s, t)
JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t
WHERE EXISTS (SELECT FROM pg_locks l WHERE l.relation = c.oid AND l.granted AND l.mode = 'AccessExclusiveLock')
"""
_SCHEMAS = """
SELECT n.nspname::text, w.r FROM unnest(%s::text[], %s::text[]) AS w(s, r) JOIN pg_namespace n ON n.nspname = w.s
LEFT JOIN pg_roles r ON r.rolname = w.r
WHERE w.r = '' OR has_schema_privilege(CASE WHEN w.r = 'public' THEN 0 ELSE r.oid END, n.oid, 'USAGE')
"""
_IDLE_USAGE = """
SELECT r.rolname::text FROM pg_namespace n, aclexplode(n.nspacl) AS x JOIN pg_roles r ON r.oid = x.grantee
WHERE n.nspname = %s AND r.rolname = ANY(%s::text[]) AND x.privilege_type = 'USAGE' AND NOT EXISTS (
  SELECT FROM pg_class c LEFT JOIN LATERAL aclexplode(c.relacl) AS y ON true
  WHERE c.relnamespace = n.oid AND c.relname <> %s
    AND (y.grantee = r.oid OR (c.relowner = r.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f'))))
"""
_BORN_WITH = """
SELECT DISTINCT coalesce(n.nspname::text, ''), coalesce(g.rolname::text, 'public')
FROM pg_default_acl d CROSS JOIN aclexplode(d.defaclacl) AS x LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
LEFT JOIN pg_roles g ON g.oid = x.grantee
WHERE d.defaclobjtype = 'r' AND d.defaclrole = current_user::regrole AND x.grantee <> d.defaclrole ORDER BY 1, 2
"""

_REFERRING = """
SELECT n.nspname::text, c.relname::text, k.conname::text FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace m ON m.oid = t.relnamespace
WHERE k.contype = 'f' AND m.nspname = %s AND t.relname = %s AND c.oid <> t.oid ORDER BY 1, 2, 3
"""


def read_referring(session: Session, name: TableName) -> list[tuple[TableName, str]]:
    """The foreign keys of other tables that refer to a table: whose each is, and what it is called."""
    rows = session.rows(_REFERRING, (name.schema, name.table))
    return [(TableName(name.database, schema, table), key) for schema, table, key in rows]


def read_usage(session: Session, pairs: Iterable[Key]) -> set[Key]:
    """Those of these pairs of schema and role where the role may use the schema; with "" as role, where it exists."""
    wanted = sorted(set(pairs))
    if not wanted:
        return set()
    rows = session.rows(_SCHEMAS, ([schema for schema, _ in wanted], [role for _, role in wanted]))
    return {(schema, role) for schema, role in rows}


def read_locked(session: Session, keys: Iterable[Key]) -> set[Key]:
    """Those of these tables that somebody else holds wholly for himself."""
    wanted = sorted(set(keys))
    rows = session.rows(_LOCKED, ([schema for schema, _ in wanted], [table for _, table in wanted]))
    return {(schema, table) for schema, table in rows}


def read_idle_usage(session: Session, name: TableName, roles: Iterable[str]) -> list[str]:
    """Those of these roles that were granted USAGE on the schema of a table, and have nothing in it but the table."""
    return [role for (role,) in session.rows(_IDLE_USAGE, (name.schema, list(roles), name.table))]


def read_born_with(session: Session) -> dict[str, list[str]]:
    """The roles that get privileges on every new table (ALTER DEFAULT PRIVILEGES), by schema; "" is any schema."""
    found: dict[str, list[str]] = {}
    for schema, role in session.rows(_BORN_WITH):
        found.setdefault(schema, []).append(role)
    return found


__all__ = [
    "PUBLIC",
    "WITH_GRANT_OPTION",
    "Key",
    "Raw",
    "read_born_with",
    "read_idle_usage",
    "read_locked",
    "read_referring",
    "read_tables",
    "read_usage",
]
