"""A role of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from agent.errors import Degraded, ResourceError
from agent.fields import Doc, Parsed
from agent.host import Host
from agent.host.postgres.connections import Server
from agent.host.postgres.errors import Refused
from agent.host.postgres.names import cluster_name, group_name, literal, quote, role_name
from agent.host.postgres.needs import server_requirements
from agent.host.postgres.roles import BOOTSTRAP, RoleEntry, membership_statements, role_options
from agent.host.postgres.scram import is_verifier, make_verifier, matches
from agent.resource import Change, Resource, State, Undoable
from agent.secret import REDACTED, Secret, SecretText
from agent.sources import Catalog, Source

_FLAGS = ("login", "superuser", "createdb")
_DEPENDENT = "2BP01"
# ALTER ROLE holds the verifier: from this on the server's log has nothing of it, whatever the log settings are.
_UNLOGGED = "SET LOCAL log_min_messages = panic; SET LOCAL log_min_error_statement = panic"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresRole(Resource, Undoable):
    """A role of PostgreSQL, with exactly these rights of its own.

    Its password is never sent: the server gets a SCRAM-SHA-256 verifier made from it, and that verifier is compared.
    A password that is not declared is left as it is. A role that owns anything is not dropped.
    """

    kind: ClassVar[str] = "postgres_role"
    reads_with: ClassVar[tuple[str, ...]] = ("psycopg",)
    looks_every: ClassVar[str] = "5m"
    example: ClassVar[str] = (
        '[postgres_role.vmail]\nlogin = true\npassword = "{{ secrets.vmail }}"\n\n[secrets.vmail]\ngenerate = 32\n'
    )

    name: Annotated[str, Parsed(role_name), Doc("The role")]
    ensure: Annotated[Literal["present", "absent"], Doc("Whether it exists")] = "present"
    login: Annotated[bool, Doc("Whether it can connect")] = False
    password: Annotated[
        str | SecretText | None, Doc("Its password, or a SCRAM-SHA-256 verifier; left as it is where not given")
    ] = None
    superuser: Annotated[bool, Doc("Whether it may do everything")] = False
    createdb: Annotated[bool, Doc("Whether it may create databases")] = False
    member_of: Annotated[
        list[Annotated[str, Parsed(group_name)]] | None,
        Doc(
            "Exactly the roles that it is a member of, also those of the server such as `pg_monitor`; where not given, "
            "they are left as they are"
        ),
    ] = None
    cluster: Annotated[
        Annotated[str, Parsed(cluster_name)] | None,
        Doc('The cluster, such as `"17/main"`, or its data directory; the one that runs where not given'),
    ] = None

    def problems(self) -> Iterable[str]:
        if self.ensure == "absent":
            given = [key for key in ("password", "member_of", *_FLAGS) if getattr(self, key)]
            yield from (f'{key} has no meaning with ensure = "absent"' for key in given)
        if self.password == "":
            yield "password is empty, and PostgreSQL takes that for none"

    def desired(self, host: Host) -> State | None:  # noqa: ARG002
        if self.ensure == "absent":
            return None
        state: dict[str, Any] = {flag: getattr(self, flag) for flag in _FLAGS}
        if self.member_of is not None:
            state["member_of"] = sorted(set(self.member_of))
        if self.password is not None:
            state["password"] = Secret(self._password())
        return state

    def _password(self) -> str:
        text = self.password.reveal() if isinstance(self.password, SecretText) else self.password or ""
        if not text or "\0" in text:
            raise ResourceError(f"the password of {self.name} is empty or holds a NUL")
        return text

    def read(self, host: Host) -> State | None:
        entry = host.postgres.server(self.cluster).roles.get(self.name)
        if entry is None:
            return None
        state: dict[str, Any] = {flag: getattr(entry, flag) for flag in _FLAGS}
        state["member_of"] = sorted(entry.member_of)
        if self.password is not None:
            state["password"] = Secret(self._password() if matches(self._password(), entry.verifier) else "")
        return state

    def preview(self, host: Host, change: Change) -> Sequence[str]:
        return list(self._statements(host.postgres.server(self.cluster), change, literal(REDACTED)))

    def foresee(self, host: Host, change: Change) -> None:
        list(self._statements(host.postgres.server(self.cluster), change, ""))

    def apply(self, host: Host, change: Change) -> None:
        server = host.postgres.server(self.cluster)
        password = ""
        if change.touches("password"):
            text = self._password()
            password = literal(text if is_verifier(text) else make_verifier(text))
        self._carry_out(server, list(self._statements(server, change, password)), hidden=bool(password))

    def _carry_out(self, server: Server, statements: Sequence[str], *, hidden: bool = False) -> None:
        try:
            with server.main.transaction():
                for statement in statements:
                    is_secret = hidden and statement is statements[-1]
                    if is_secret:
                        server.main.run(_UNLOGGED)
                    server.main.run(statement, hidden=is_secret)
        except Refused as error:
            raise self._in_use(error) if error.sqlstate == _DEPENDENT else error from None

    def _in_use(self, error: Refused) -> ResourceError:
        name = quote(self.name)
        return ResourceError(
            f"the role {self.name} is not dropped: it owns objects or has privileges on some",
            detail=error.detail,
            hint=f"in each of these databases: REASSIGN OWNED BY {name} TO postgres; DROP OWNED BY {name}",
        )

    def _statements(self, server: Server, change: Change, password: str) -> Iterable[str]:
        if change.desired is None:
            return [f"DROP ROLE {quote(self.name)}"]
        entry = server.roles.get(self.name)
        differing = {each.attribute: each.desired for each in change.attributes}
        return self._bringing(server, entry, differing, password)

    def _bringing(
        self, server: Server, entry: RoleEntry | None, values: Mapping[str, Any], password: str
    ) -> Iterable[str]:
        """What gives a role these values; the password comes last, as nothing is logged from there on."""
        if entry is not None and entry.oid == BOOTSTRAP and values.get("superuser") is False:
            raise ResourceError(f"{self.name} is the superuser of the cluster and must stay one")
        options = role_options({flag: values[flag] for flag in _FLAGS if flag in values})
        if entry is None:
            yield f"CREATE ROLE {quote(self.name)} {options}".rstrip()
        elif options:
            yield f"ALTER ROLE {quote(self.name)} {options}"
        if "member_of" in values:
            actual = entry.member_of if entry is not None else {}
            by_grantor = server.main.version >= 160000
            yield from membership_statements(self.name, actual, values["member_of"], by_grantor=by_grantor)
        if "password" in values:
            yield f"ALTER ROLE {quote(self.name)} PASSWORD {password}"

    def cannot_undo(self, host: Host, before: State | None) -> str:
        is_there = self.name in host.postgres.server(self.cluster).roles
        return "" if before is None or is_there else f"the password of the role {self.name} was not kept"

    def undo(self, host: Host, before: State | None) -> None:
        server = host.postgres.server(self.cluster)
        entry = server.roles.get(self.name)
        if before is None:
            if entry is not None:
                self._carry_out(server, [f"DROP ROLE {quote(self.name)}"])
            return
        kept = {key: value for key, value in before.items() if key != "password"}
        left = self.cannot_undo(host, before)
        self._carry_out(server, list(self._bringing(server, entry, kept, "")))
        if left:
            raise Degraded(left, changed=True)

    def watched(self) -> Iterable[Source]:
        return [Catalog(self.cluster)]

    def implied_requires(self) -> Iterable[str]:
        return [*server_requirements(self.cluster), *(f"postgres_role:{name}" for name in self.member_of or ())]
