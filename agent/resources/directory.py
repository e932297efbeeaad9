"""A directory: that it is there, its mode and owner, and that nothing stands in it that nobody declared."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from agent.errors import Degraded, ResourceError
from agent.fields import AbsolutePath, AccountName, Doc, Internal, Mode
from agent.host import Host
from agent.host.tree import Purge
from agent.resource import Change, Resource, State, Undoable
from agent.sources import At, Below, Source

_OF_THE_SYSTEM = re.compile(
    r"/[^/]*|/usr/[^/]+|/usr/local/(bin|etc|lib|sbin|share)|/etc/(ssl|ssl/certs|systemd|systemd/system)"
    r"|/var/(backups|cache|lib|lib/apt|lib/dpkg|lib/systemd|local|log|mail|opt|spool|tmp)|/boot/[^/]+"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory(Resource, Undoable):
    """A directory; what stands in it is left alone unless `purge` is set.

    A file or a link in its place is never removed for it. Removing it (`ensure = "absent"`) removes an empty directory;
    one that is not empty only with `purge = true`, and then with all it holds.
    """

    kind: ClassVar[str] = "directory"
    reaches_far: ClassVar[bool] = False
    example: ClassVar[str] = '[directory."/srv/example"]\nmode = "0750"\ngroup = "adm"\n'

    name: Annotated[AbsolutePath, Doc("The path")]
    ensure: Annotated[Literal["present", "absent"], Doc("Whether it is there")] = "present"
    mode: Annotated[Mode | None, Doc('Permission bits; left as they are where not given (new: `"0755"`)')] = None
    owner: Annotated[AccountName | None, Doc("The owner; left as it is where not given (root for a new one)")] = None
    group: Annotated[AccountName | None, Doc("The group; left as it is where not given (root for a new one)")] = None
    purge: Annotated[
        bool,
        Doc(
            "Remove, at any depth, what no resource declares. Links are removed, never followed; mount points stay. "
            "The plan names all that is removed; it is not kept for a rollback"
        ),
    ] = False
    keep: Annotated[
        list[str],
        Doc(
            "What `purge` leaves alone: globs on names relative to the directory, in which `*` matches `/` too; "
            "a directory that matches keeps all it holds"
        ),
    ] = field(default_factory=list)
    declared: Annotated[list[str], Internal()] = field(default_factory=list)

    def problems(self) -> Iterable[str]:
        """What is wrong across its fields."""
        if self.keep and not self.purge:
            yield "keep has no meaning without purge = true"
        if self.purge and _OF_THE_SYSTEM.fullmatch(self.name):
            yield f"{self.name} is a folder of the system and is never purged"
        if self.ensure == "absent":
            for key in ("mode", "owner", "group"):
                if getattr(self, key) is not None:
                    yield f'{key} has no meaning with ensure = "absent"'

    def _purge(self) -> Purge:
        return Purge(self.name, self.declared, self.keep, self.links)

    def desired(self, host: Host) -> State | None:  # noqa: ARG002
        if self.ensure == "absent":
            return None
        given = {"mode": self.mode, "owner": self.owner, "group": self.group}
        state: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        state["type"] = "directory"
        if self.purge:
            state["unmanaged"] = []
        return state

    def read(self, host: Host) -> State | None:
        state = host.files.read_entry(self.name, self.links)
        if state is None:
            if self.ensure == "present" and not self.requires:
                host.files.require_parent(self.name)
            return None
        if self.purge and state["type"] == "directory":
            state["unmanaged"] = self._purge().unmanaged()
        return state

    def foresee(self, host: Host, change: Change) -> None:
        actual = change.actual
        if actual is not None and actual["type"] != "directory":
            what = f"a link to {actual['target']}" if actual["type"] == "link" else f"a {actual['type']}"
            raise ResourceError(f"{self.name} is {what}", hint="move it away; it is never removed for a directory")
        if change.desired is not None:
            host.files.foresee(self.name, self.owner, self.group)
        elif not self.purge:
            self._check_empty()

    def apply(self, host: Host, change: Change) -> None:
        self.foresee(host, change)
        actual = change.actual
        if actual is None:
            self._make(host, self.mode or "0755", self.owner, self.group)
            return
        if self.purge:
            self._purge().remove(actual.get("unmanaged", ()))
        if change.desired is None:
            self._remove(host)
        elif change.touches("mode", "owner", "group"):
            self._set(host, self.mode, self.owner, self.group)

    def _make(self, host: Host, mode: str, owner: str | None, group: str | None) -> None:
        host.files.make_directory(self.name, mode, owner=owner, group=group, links=self.links)

    def _set(self, host: Host, mode: str | None, owner: str | None, group: str | None) -> None:
        host.files.set_attributes(self.name, mode=mode, owner=owner, group=group, links=self.links)

    def _remove(self, host: Host) -> None:
        self._check_empty()
        host.files.remove_directory(self.name, self.links)

    def _check_empty(self) -> None:
        held = Purge(self.name, (), (), self.links).unmanaged()
        if held:
            more = f" and {len(held) - 3} more" if len(held) > 3 else ""
            raise ResourceError(
                f"{self.name} is not empty, so it stays",
                detail=f"it holds {', '.join(held[:3])}{more}",
                hint="empty it" if self.purge else "empty it, or set purge = true to remove all it holds",
            )

    def cannot_undo(self, host: Host, before: State | None) -> str:
        if before is None:
            return ""
        if before["type"] != "directory":
            raise ResourceError(f"{self.name} was a {before['type']}, which was not kept")
        lost = [name for name in before.get("unmanaged", ()) if not name.endswith("/")]
        gone = [name for name in lost if host.files.read_entry(f"{self.name}/{name}", self.links) is None]
        return f"what was purged from {self.name} was not kept: {', '.join(gone)}" if gone else ""

    def undo(self, host: Host, before: State | None) -> None:
        if before is None:
            if host.files.read_entry(self.name, self.links) is not None:
                self._remove(host)
            return
        left = self.cannot_undo(host, before)
        if host.files.read_entry(self.name, self.links) is None:
            self._make(host, before["mode"], before["owner"], before["group"])
        else:
            self._set(host, before["mode"], before["owner"], before["group"])
        if left:
            raise Degraded(left, changed=True)

    def watched(self) -> Iterable[Source]:
        return [At(self.name), *[Below(self.name)] * self.purge]

    def implied_requires(self) -> Iterable[str]:
        return [f"user:{self.owner}"] * bool(self.owner) + [f"group:{self.group}"] * bool(self.group)

    def paths(self) -> Iterable[str]:
        return (self.name,)
