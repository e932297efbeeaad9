"""A symbolic link and what it points to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from agent.errors import ResourceError
from agent.fields import AbsolutePath, Doc
from agent.host import Host
from agent.host.paths import temporary_beside
from agent.resource import Change, Resource, State, Undoable


@dataclass(frozen=True, slots=True, kw_only=True)
class Link(Resource, Undoable):
    """A symbolic link; another link in its place is replaced in one instant, a file or directory never is."""

    kind: ClassVar[str] = "link"
    reaches_far: ClassVar[bool] = False
    example: ClassVar[str] = '[link."/etc/localtime"]\ntarget = "/usr/share/zoneinfo/Etc/UTC"\n'

    name: Annotated[AbsolutePath, Doc("The path")]
    ensure: Annotated[Literal["present", "absent"], Doc("Whether it is there")] = "present"
    target: Annotated[
        str | None, Doc("What it points to: an absolute path, or one relative to the link's own directory")
    ] = None

    def problems(self) -> Iterable[str]:
        """What is wrong across its fields."""
        if self.ensure == "present" and not self.target:
            yield "target is needed: what the link points to"
        if self.ensure == "absent" and self.target is not None:
            yield 'target has no meaning with ensure = "absent"'
        if self.target is not None and ("\0" in self.target or len(self.target.encode()) > 4095):
            yield "target cannot hold a NUL or more than 4095 bytes"

    def desired(self, host: Host) -> State | None:  # noqa: ARG002
        return {"type": "link", "target": self.target} if self.ensure == "present" else None

    def read(self, host: Host) -> State | None:
        state = host.files.read_entry(self.name, self.links)
        if state is None:
            if self.ensure == "present" and not self.requires:
                host.files.require_parent(self.name)
            return None
        return {"type": state["type"], "target": state.get("target")}

    def foresee(self, host: Host, change: Change) -> None:
        if change.actual is not None:
            self._refuse_other(change.actual["type"])
        if change.desired is not None:
            host.files.foresee(self.name)

    def apply(self, host: Host, change: Change) -> None:
        self.foresee(host, change)
        if change.desired is None:
            host.files.remove(self.name, self.links)
        else:
            host.files.make_link(self.name, change.desired["target"], self.links)

    def _refuse_other(self, found: str) -> None:
        if found != "link":
            hint = f"move it away; a {found} is never removed for a link"
            raise ResourceError(f"{self.name} is a {found}, not a link", hint=hint)

    def cannot_undo(self, host: Host, before: State | None) -> str:  # noqa: ARG002
        if before is not None:
            self._refuse_other(before["type"])
        return ""

    def undo(self, host: Host, before: State | None) -> None:
        now = host.files.read_entry(self.name, self.links)
        if now is not None:
            self._refuse_other(now["type"])
        if before is None:
            host.files.remove(self.name, self.links)
        else:
            self._refuse_other(before["type"])
            host.files.make_link(self.name, before["target"], self.links)

    def paths(self) -> Iterable[str]:
        return (self.name,)

    def leads_to(self) -> str:
        return os.path.normpath(os.path.join(os.path.dirname(self.name), self.target)) if self.target else ""

    def temporaries(self) -> Iterable[str]:
        return (temporary_beside(self.name),)
