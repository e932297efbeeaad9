"""Roles and databases of a cluster, read from its catalog in bulk, and the SQL that changes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agent.host.postgres.names import quote
from agent.host.postgres.session import Session

_ROLES = "SELECT rolname::text, oid, rolcanlogin, rolsuper, rolcreatedb, rolpassword FROM pg_authid"
_MEMBERS = """
SELECT m.rolname::text, g.rolname::text, coalesce(by.rolname::text, '')
FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid
LEFT JOIN pg_roles by ON by.oid = a.grantor ORDER BY 1, 2, 3
"""
_DATABASES = """
SELECT datname::text, pg_get_userbyid(datdba)::text, pg_encoding_to_char(encoding)::text, datcollate::text,
       datctype::text, datallowconn FROM pg_database
"""
_OTHERS = """
SELECT pid, coalesce(usename::text, backend_type), coalesce(nullif(application_name, ''), 'no application name')
FROM pg_stat_activity WHERE datname = %s AND pid NOT IN (pg_backend_pid(), %s) ORDER BY pid
"""
BOOTSTRAP = 10
"""The oid of the superuser that initdb made."""
_FLAGS = {"login": "LOGIN", "superuser": "SUPERUSER", "createdb": "CREATEDB"}


@dataclass(frozen=True, slots=True)
class RoleEntry:
    """A role; `verifier` is what pg_authid keeps of its password, `member_of` says for each role who granted it."""

    oid: int
    login: bool
    superuser: bool
    createdb: bool
    verifier: str | None = field(repr=False)
    member_of: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class DatabaseEntry:
    """A database."""

    owner: str
    encoding: str
    collate: str
    ctype: str
    connectable: bool


def read_roles(session: Session) -> dict[str, RoleEntry]:
    """All roles, by name."""
    member_of: dict[str, dict[str, list[str]]] = {}
    for member, group, by in session.rows(_MEMBERS):
        member_of.setdefault(member, {}).setdefault(group, []).append(by)
    return {
        name: RoleEntry(oid, login, superuser, createdb, verifier, member_of.get(name, {}))
        for name, oid, login, superuser, createdb, verifier in session.rows(_ROLES)
    }


def read_databases(session: Session) -> dict[str, DatabaseEntry]:
    """All databases, by name."""
    return {name: DatabaseEntry(*values) for name, *values in session.rows(_DATABASES)}


def others_connected(session: Session, database: str, own: int) -> list[str]:
    """Who is connected to a database, one phrase for each; not this session, and not the process `own`."""
    return [f"process {pid} of {role} ({program})" for pid, role, program in session.rows(_OTHERS, (database, own))]


def role_options(flags: Mapping[str, bool]) -> str:
    """Flags as CREATE ROLE and ALTER ROLE take them."""
    return " ".join(("" if value else "NO") + _FLAGS[name] for name, value in flags.items() if name in _FLAGS)


def membership_statements(
    name: str, actual: Mapping[str, Sequence[str]], desired: Sequence[str], *, by_grantor: bool
) -> Iterator[str]:
    """What makes a role a member of exactly these. From 16 on a grant only goes as the one who granted it."""
    for group in sorted(actual.keys() - set(desired)):
        for grantor in actual[group] if by_grantor else [""]:
            suffix = f" GRANTED BY {quote(grantor)} CASCADE" if grantor else ""
            yield f"REVOKE {quote(group)} FROM {quote(name)}{suffix}"
    for group in sorted(set(desired) - actual.keys()):
        yield f"GRANT {quote(group)} TO {quote(name)}"
