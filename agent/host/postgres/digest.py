"""Whether anything changed in a PostgreSQL cluster: told by its write-ahead log, and made sure of by a digest.

Every commit that changes anything is written to the log (pg_wal) before it counts, so an event on that folder tells of
DDL, roles, databases and rows alike, within milliseconds, and leaves nothing in anybody's database. The digest then
tells whether it concerns what is watched: which row versions (xmin, ctid) the catalogs, or a table, consist of. It
reads catalogs only, takes no transaction number, and so writes nothing to the log itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from agent.errors import ResourceError
from agent.host.postgres.clusters import ETC, Clusters
from agent.host.postgres.connections import Postgres
from agent.host.postgres.names import quote
from agent.host.postgres.session import Session

Table = tuple[str, str]
"""Schema and name."""

_VERSIONS = "count(*) || ':' || coalesce(sum(hashtext({0}.xmin::text || {0}.ctid::text)::bigint), 0)"
_OF_DATABASE = {"pg_extension": "true", "pg_database": "datname = current_database()"}
_FOR_ALL_TABLES = {
    "pg_namespace": "nspname !~ '^pg_' AND nspname <> 'information_schema'",
    "pg_default_acl": "true",
    "pg_database": "datname = current_database()",
}
_OF_CLUSTER = {"pg_authid": "true", "pg_auth_members": "true", "pg_database": "true", "pg_db_role_setting": "true"}

# What a table consists of: itself, its indexes and sequences, and the names that its foreign keys refer to.
_OF_TABLES = """
WITH own AS (
  SELECT c.oid, n.nspname::text AS s, c.relname::text AS t FROM unnest(%s::text[], %s::text[]) AS w(s, t)
  JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t
), parts AS (
  SELECT oid AS own, oid FROM own
  UNION SELECT o.oid, i.indexrelid FROM own o JOIN pg_index i ON i.indrelid = o.oid
  UNION SELECT o.oid, d.objid FROM own o JOIN pg_depend d
    ON d.refclassid = 'pg_class'::regclass AND d.refobjid = o.oid AND d.classid = 'pg_class'::regclass
    AND d.deptype IN ('a', 'i')
), versions AS (
  SELECT p.own, c.xmin::text || c.ctid::text AS v FROM parts p JOIN pg_class c ON c.oid = p.oid
  UNION ALL SELECT p.own, c.xmin::text || c.ctid::text FROM parts p JOIN pg_attribute c ON c.attrelid = p.oid
  UNION ALL SELECT p.own, c.xmin::text || c.ctid::text FROM parts p JOIN pg_sequence c ON c.seqrelid = p.oid
  UNION ALL SELECT o.oid, c.xmin::text || c.ctid::text FROM own o JOIN pg_attrdef c ON c.adrelid = o.oid
  UNION ALL SELECT o.oid, c.xmin::text || c.ctid::text FROM own o JOIN pg_index c ON c.indrelid = o.oid
  UNION ALL SELECT o.oid, c.xmin::text || c.ctid::text FROM own o JOIN pg_constraint c ON c.conrelid = o.oid
  UNION ALL SELECT o.oid, c.relnamespace::text || c.relname || a.attname FROM own o
    JOIN pg_constraint k ON k.conrelid = o.oid JOIN pg_class c ON c.oid = k.confrelid
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(k.confkey)
), digests AS MATERIALIZED (SELECT own, count(*) || ':' || sum(hashtext(v)::bigint) AS d FROM versions GROUP BY own)
SELECT o.s, o.t, d.d FROM own o JOIN digests d ON d.own = o.oid
"""


def log_folder(cluster: str | None, etc: str = ETC) -> str:
    """The folder of a running cluster's write-ahead log. Raises ResourceError where it does not run."""
    return str(Clusters(etc).find(cluster).data / "pg_wal")


def connect(postgres: Postgres, cluster: str | None, database: str | None) -> None:
    """Make the connection that a digest needs, where it can be made."""
    with contextlib.suppress(ResourceError):
        _session(postgres, cluster, database)


def _session(postgres: Postgres, cluster: str | None, database: str | None) -> Session:
    server = postgres.server(cluster)
    if database is None:
        return server.main
    return postgres.opened(server.cluster, database) or server.session(database)


def digest(postgres: Postgres, cluster: str | None, database: str | None) -> str:
    """What the catalogs of a cluster, or those of a database as a whole, consist of, as a text to compare."""
    try:
        session = _session(postgres, cluster, database)
        return str(session.rows(_query(_OF_CLUSTER if database is None else _OF_DATABASE))[0][0])
    except ResourceError as error:
        return str(error)


def digests(postgres: Postgres, cluster: str | None, database: str | None, tables: Sequence[Table]) -> dict[Table, str]:
    """The same of what the catalogs say of each of these tables."""
    try:
        session = _session(postgres, cluster, database)
        shared = session.rows(_query(_FOR_ALL_TABLES))[0][0]
        rows = session.rows(_OF_TABLES, ([schema for schema, _ in tables], [name for _, name in tables]))
    except ResourceError as error:
        return dict.fromkeys(tables, str(error))
    return dict.fromkeys(tables, "") | {(schema, name): f"{shared} {found}" for schema, name, found in rows}


def digest_of_rows(postgres: Postgres, cluster: str | None, database: str | None, table: Table) -> str:
    """The same of the rows of a table."""
    name = f"{quote(table[0])}.{quote(table[1])}"
    try:
        session = _session(postgres, cluster, database)
        return str(session.rows(f"SELECT {_VERSIONS.format('t')} FROM {name} AS t")[0][0])
    except ResourceError as error:
        return str(error)


def _query(catalogs: dict[str, str]) -> str:
    parts = [f"(SELECT {_VERSIONS.format('c')} FROM {name} AS c WHERE {which})" for name, which in catalogs.items()]
    return "SELECT " + " || ' ' || ".join(parts)
