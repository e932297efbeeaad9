"""A group of the local system."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from agent.errors import ResourceError
from agent.fields import AccountId, AccountName, Doc
from agent.host import Host
from agent.resource import Change, Resource, State, Undoable
from agent.sources import At, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Group(Resource, Undoable):
    """A group in /etc/group; who is in it is declared with the users (`groups`)."""

    kind: ClassVar[str] = "group"
    example: ClassVar[str] = "[group.vmail]\nsystem = true\n"

    name: Annotated[AccountName, Doc("The group's name")]
    ensure: Annotated[Literal["present", "absent"], Doc("Whether it exists")] = "present"
    gid: Annotated[
        AccountId | None, Doc("Its number; chosen by the system where not given. Files keep an old number")
    ] = None
    system: Annotated[bool, Doc("Take a number from the range for system groups; counts only when it is made")] = False

    def problems(self) -> Iterable[str]:
        if self.ensure == "absent" and self.gid is not None:
            yield 'gid has no meaning with ensure = "absent"'

    def desired(self, host: Host) -> State | None:  # noqa: ARG002
        if self.ensure == "absent":
            return None
        return {} if self.gid is None else {"gid": self.gid}

    def read(self, host: Host) -> State | None:
        entry = host.accounts.groups.get(self.name)
        if entry is None:
            return None
        return {} if self.ensure == "present" and self.gid is None else {"gid": entry.gid}

    def claims(self) -> Iterable[tuple[str, str]]:
        if self.gid is not None:
            yield f"the gid {self.gid}", f"is given to {self.name}"

    def foresee(self, host: Host, change: Change) -> None:
        if change.desired is None:
            self._check_unused(host)
        elif self.gid is not None:
            host.accounts.check_gid(self.gid, self.name)

    def apply(self, host: Host, change: Change) -> None:
        if change.desired is None:
            self._remove(host)
        elif change.actual is None:
            self._make(host, self.gid)
        else:
            self._renumber(host, change.desired["gid"])

    def _make(self, host: Host, gid: int | None) -> None:
        if gid is not None:
            host.accounts.check_gid(gid, self.name)
        number = [] if gid is None else ["--gid", str(gid)]
        host.accounts.change(["groupadd", *["--system"] * self.system, *number, self.name])

    def _renumber(self, host: Host, gid: int) -> None:
        host.accounts.check_gid(gid, self.name)
        host.accounts.change(["groupmod", "--gid", str(gid), self.name])

    def _remove(self, host: Host) -> None:
        self._check_unused(host)
        host.accounts.change(["groupdel", self.name])

    def _check_unused(self, host: Host) -> None:
        users = host.accounts.users_in(host.accounts.groups[self.name].gid)
        if users:
            raise ResourceError(
                f"the group {self.name} is the primary group of {', '.join(users)}",
                hint="give them another primary group, or remove them first",
            )

    def cannot_undo(self, host: Host, before: State | None) -> str:
        is_there = self.name in host.accounts.groups
        return "" if before is None or is_there else "its members were not kept"

    def undo(self, host: Host, before: State | None) -> None:
        now = host.accounts.groups.get(self.name)
        if before is None:
            if now is not None:
                self._remove(host)
        elif now is None:
            self._make(host, before.get("gid"))
        elif now.gid != before.get("gid", now.gid):
            self._renumber(host, before["gid"])

    def watched(self) -> Iterable[Source]:
        return [At("/etc/group")]

    def implied_requires(self) -> Iterable[str]:
        # The user of the same name goes first: it is most likely the one whose primary group this is.
        return [f"user:{self.name}"] * (self.ensure == "absent")
