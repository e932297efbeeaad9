"""A database of PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from agent.errors import ResourceError
from agent.fields import Doc, Parsed
from agent.host import Host
from agent.host.postgres.connections import Server
from agent.host.postgres.names import cluster_name, literal, one_name, quote
from agent.host.postgres.needs import server_requirements
from agent.host.postgres.roles import DatabaseEntry
from agent.resource import Change, Resource, State, Undoable
from agent.sources import Catalog, Source

_FIXED = ("encoding", "locale")
_USER_TABLES = """
SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f', 'S') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresDatabase(Resource, Undoable):
    """A database of PostgreSQL, made from template0, with its owner and extensions.

    Its encoding and locale are chosen when it is made; the server cannot change them later, and a difference is an
    error. Extensions that are not declared are left alone. A database that somebody is connected to is not dropped.
    """

    kind: ClassVar[str] = "postgres_database"
    reads_with: ClassVar[tuple[str, ...]] = ("psycopg",)
    looks_every: ClassVar[str] = "5m"
    example: ClassVar[str] = (
        '[postgres_role.vmail]\n\n[postgres_database.mail]\nowner = "vmail"\nencoding = "UTF8"\nlocale = "C.UTF-8"\n'
        'extensions = ["citext"]\n'
    )

    name: Annotated[str, Parsed(one_name), Doc("The database")]
    ensure: Annotated[
        Literal["present", "absent"], Doc("Whether it exists; `absent` drops it with all that it holds")
    ] = "present"
    owner: Annotated[
        Annotated[str, Parsed(one_name)] | None,
        Doc("Its owner; left as it is where not given (the superuser for a new one)"),
    ] = None
    encoding: Annotated[str | None, Doc("Its encoding; the cluster's own for a new one where not given")] = None
    locale: Annotated[
        str | None, Doc("Its collation and character classes (LC_COLLATE, LC_CTYPE), such as `C.UTF-8`")
    ] = None
    extensions: Annotated[
        list[Annotated[str, Parsed(one_name)]], Doc("Extensions that are installed in it, such as `citext`")
    ] = field(default_factory=list)
    cluster: Annotated[
        Annotated[str, Parsed(cluster_name)] | None,
        Doc('The cluster, such as `"17/main"`, or its data directory; the one that runs where not given'),
    ] = None

    def problems(self) -> Iterable[str]:
        if self.ensure == "absent":
            given = [key for key in ("owner", "extensions", *_FIXED) if getattr(self, key)]
            yield from (f'{key} has no meaning with ensure = "absent"' for key in given)
        if self.name in ("template0", "template1"):
            yield f"{self.name} is what new databases are made from; it is not managed"
        if self.name == "postgres" and self.ensure == "absent":
            yield "the database postgres is the one that every tool connects to; it is not dropped"

    def desired(self, host: Host) -> State | None:
        if self.ensure == "absent":
            return None
        state: dict[str, Any] = {}
        if self.owner is not None:
            state["owner"] = self.owner
        if self.encoding is not None:
            state["encoding"] = host.postgres.server(self.cluster).encoding(self.encoding)
        if self.locale is not None:
            state["locale"] = self.locale
        if self.extensions:
            state["extensions"] = sorted(set(self.extensions))
        return state

    def read(self, host: Host) -> State | None:
        server = host.postgres.server(self.cluster)
        entry = server.databases.get(self.name)
        if entry is None:
            return None
        state: dict[str, Any] = {"owner": entry.owner, "encoding": entry.encoding, "locale": self._locale(entry)}
        if self.extensions:
            state["extensions"] = sorted(server.extensions(self.name) & set(self.extensions))
        return state

    def _locale(self, entry: DatabaseEntry) -> str:
        """The locale as it was declared, where only its spelling differs: the C library takes both for one."""
        wanted = _normal(self.locale or "")
        if {_normal(entry.collate), _normal(entry.ctype)} == {wanted}:
            return self.locale or ""
        return entry.collate if entry.collate == entry.ctype else f"{entry.collate} (LC_CTYPE {entry.ctype})"

    def summary(self, host: Host, change: Change) -> str:  # noqa: ARG002
        return "refused: encoding and locale cannot be changed" if self._is_fixed(change) else ""

    def _is_fixed(self, change: Change) -> bool:
        return change.actual is not None and change.desired is not None and change.touches(*_FIXED)

    def preview(self, host: Host, change: Change) -> Sequence[str]:  # noqa: ARG002
        if change.desired is None:
            return [f"DROP DATABASE {quote(self.name)}"]
        return [*self._outside(change), *self._inside(change)]

    def _outside(self, change: Change) -> list[str]:
        """What is done from another database."""
        if change.actual is None:
            return [self._creation()]
        if change.touches("owner") and self.owner is not None:
            return [f"ALTER DATABASE {quote(self.name)} OWNER TO {quote(self.owner)}"]
        return []

    def _creation(self) -> str:
        words = [f"CREATE DATABASE {quote(self.name)}"]
        if self.owner is not None:
            words.append(f"OWNER {quote(self.owner)}")
        if self.encoding is not None:
            words.append(f"ENCODING {literal(self.encoding)}")
        if self.locale is not None:
            words.append(f"LOCALE {literal(self.locale)}")
        return " ".join([*words, "TEMPLATE template0"])

    def _inside(self, change: Change) -> list[str]:
        present = (change.actual or {}).get("extensions", [])
        wanted = (change.desired or {}).get("extensions", [])
        return [f"CREATE EXTENSION {quote(name)} CASCADE" for name in wanted if name not in present]

    def apply(self, host: Host, change: Change) -> None:
        server = host.postgres.server(self.cluster)
        if change.desired is None:
            self._drop(server)
            return
        if self._is_fixed(change):
            raise self._cannot_change(change)
        for statement in self._outside(change):
            server.main.run(statement)
        self._install(server if change.actual is not None else _again(host, self.cluster), self._inside(change))

    def _install(self, server: Server, statements: Sequence[str]) -> None:
        if not statements:
            return
        session = server.session(self.name)
        with session.transaction():
            session.run("SET LOCAL search_path = public")
            for statement in statements:
                try:
                    session.run(statement)
                except ResourceError as error:
                    error.hint = error.hint or "its package is postgresql-contrib or postgresql-VERSION-NAME"
                    raise

    def _cannot_change(self, change: Change) -> ResourceError:
        words = [f"{each.attribute} is {each.actual}, not {each.desired}" for each in change.attributes]
        return ResourceError(
            f"the database {self.name} would need to be made again, which is not done",
            detail="\n".join(word for word in words if word.startswith(_FIXED)),
            hint=f"pg_dump {self.name} first, drop it, apply, and restore it; or declare what it is",
        )

    def _drop(self, server: Server) -> None:
        others = server.end_session(self.name)
        if others:
            raise ResourceError(
                f"the database {self.name} is not dropped: {len(others)} connected to it",
                detail="\n".join(others[:10]),
                hint="stop what uses it, then apply again",
            )
        server.main.run(f"DROP DATABASE {quote(self.name)}")

    def cannot_undo(self, host: Host, before: State | None) -> str:
        server = host.postgres.server(self.cluster)
        if before is not None and self.name not in server.databases:
            raise ResourceError(f"the database {self.name} was dropped; what it held was not kept")
        return ""

    def undo(self, host: Host, before: State | None) -> None:
        server = host.postgres.server(self.cluster)
        entry = server.databases.get(self.name)
        if before is not None:
            self.cannot_undo(host, before)
            if entry is not None and before["owner"] != entry.owner:
                server.main.run(f"ALTER DATABASE {quote(self.name)} OWNER TO {quote(before['owner'])}")
        elif entry is not None:
            count = server.session(self.name).rows(_USER_TABLES)[0][0]
            if count:
                raise ResourceError(f"the database {self.name} holds {count} tables or the like, so it is left")
            self._drop(server)

    def watched(self) -> Iterable[Source]:
        return [Catalog(self.cluster), Catalog(self.cluster, self.name)]

    def implied_requires(self) -> Iterable[str]:
        return [*server_requirements(self.cluster), *[f"postgres_role:{self.owner}"] * (self.owner is not None)]


def _again(host: Host, cluster: str | None) -> Server:
    """The server, which knows its new database once it is asked again."""
    host.postgres.forget()
    return host.postgres.server(cluster)


def _normal(locale: str) -> str:
    """A locale as the C library compares it: its codeset without case and punctuation (locale(7))."""
    language, dot, codeset = locale.partition(".")
    return language + dot + re.sub("[^a-z0-9]", "", codeset.lower())
