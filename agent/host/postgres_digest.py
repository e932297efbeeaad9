"""Whether anything changed in a PostgreSQL cluster: told by its write-ahead log, and made sure of by a digest.

Every commit that changes anything is written to the log (pg_wal) before it counts, so an event on that folder tells of
DDL, roles, databases and rows alike, within milliseconds, and leaves nothing in anybody's database. The digest then
tells whether it concerns what is watched: which row versions (xmin, ctid) the catalogs, or a table, consist of. It
reads catalogs only, takes no transaction number, and so writes nothing to the log itself.
"""

from __future__ import annotations

import contextlib

from agent.errors import ResourceError
from agent.host.postgres import Postgres
from agent.host.postgres_clusters import ETC, Clusters
from agent.host.postgres_names import quote

_VERSIONS = "count(*) || ':' || coalesce(sum(hashtext({0}.xmin::text || {0}.ctid::text)::bigint), 0)"
_USERS = "(SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')"
_RELATIONS = f"(SELECT oid FROM pg_class WHERE relnamespace IN {_USERS})"
_OF_DATABASE = {
    "pg_namespace": f"oid IN {_USERS}",
    "pg_class": f"relnamespace IN {_USERS}",
    "pg_attribute": f"attrelid IN {_RELATIONS}",
    "pg_attrdef": f"adrelid IN {_RELATIONS}",
    "pg_index": f"indrelid IN {_RELATIONS}",
    "pg_constraint": f"connamespace IN {_USERS}",
    "pg_sequence": "true",
    "pg_extension": "true",
    "pg_database": "datname = current_database()",
}
_OF_CLUSTER = {"pg_authid": "true", "pg_auth_members": "true", "pg_database": "true", "pg_db_role_setting": "true"}


def log_folder(cluster: str | None, etc: str = ETC) -> str:
    """The folder of a running cluster's write-ahead log. Raises ResourceError where it does not run."""
    return str(Clusters(etc).find(cluster).data / "pg_wal")


def connect(postgres: Postgres, cluster: str | None, database: str | None) -> None:
    """Make the connection that a digest needs, where it can be made."""
    with contextlib.suppress(ResourceError):
        server = postgres.server(cluster)
        if database is None:
            server.main  # noqa: B018
        else:
            server.session(database)


def digest(postgres: Postgres, cluster: str | None, database: str | None, table: tuple[str, str] | None) -> str:
    """What the catalogs of a cluster, those of one of its databases, or a table consist of, as a text to compare."""
    try:
        server = postgres.server(cluster)
        if database is None:
            return str(server.main.rows(_query(_OF_CLUSTER))[0][0])
        session = server.session(database)
        if table is None:
            return str(session.rows(_query(_OF_DATABASE))[0][0])
        name = f"{quote(table[0])}.{quote(table[1])}"
        return str(session.rows(f"SELECT {_VERSIONS.format('t')} FROM {name} AS t")[0][0])
    except ResourceError as error:
        return str(error)


def _query(catalogs: dict[str, str]) -> str:
    parts = [f"(SELECT {_VERSIONS.format('c')} FROM {name} AS c WHERE {which})" for name, which in catalogs.items()]
    return "SELECT " + " || ' ' || ".join(parts)
