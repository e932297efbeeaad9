"""A marked block inside a file that others own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from agent.errors import ResourceError
from agent.fields import Doc, Parsed, Regex, absolute_path
from agent.host import Host
from agent.host.marked import drop, find, holds_marker, put, unix
from agent.host.paths import temporary_beside
from agent.resource import Change, Resource, State, Undoable
from agent.secret import Secret, SecretText


def _path_and_label(text: str) -> str:
    path, _, label = text.partition("#")
    if not re.fullmatch(r"[^\s#]+", label):
        raise ValueError(f'"{text}" is not a block: write "/path/of/the/file#label", with a label without spaces')
    return f"{absolute_path(path)}#{label}"


def _comment_style(text: str) -> str:
    if not re.fullmatch(r"\S+( [^\w\s]\S*)?", text):
        raise ValueError(f'"{text}" is not how a comment begins (and ends): write one such as "#", "//" or "<!-- -->"')
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Block(Resource, Undoable):
    """Lines between two marker comments, in a file whose other lines are left alone byte for byte.

    The block is found by its markers wherever it stands. A file that is not there is made (mode 0644, or 0600 where the
    block is sensitive); one that is there keeps its mode, owner, line endings and a missing newline at its end.
    """

    kind: ClassVar[str] = "block"
    reaches_far: ClassVar[bool] = False
    example: ClassVar[str] = '[block."/etc/hosts#gateway"]\ncontent = "192.0.2.1 gateway.example.net gateway\\n"\n'
    shares_path: ClassVar[bool] = True
    """Several of this kind may stand at one path."""

    name: Annotated[str, Parsed(_path_and_label), Doc("The file's path, `#`, and a label for the block")]
    ensure: Annotated[Literal["present", "absent"], Doc("Whether it is there; `absent` keeps the file")] = "present"
    content: Annotated[
        str | SecretText | None, Doc("The lines of the block; they get the line endings that the file has")
    ] = None
    after: Annotated[
        Regex | None,
        Doc("A new block goes after the last line in which this is found; where there is none, to the end of the file"),
    ] = None
    before: Annotated[
        Regex | None,
        Doc("A new block goes before the first line in which this is found; where there is none, to the end"),
    ] = None
    comment: Annotated[
        str,
        Parsed(_comment_style),
        Doc('How a comment begins in this file and, after a space, how it ends: `"//"`, `"<!-- -->"`'),
    ] = "#"
    sensitive: Annotated[bool, Doc("Its content is never shown, journalled or backed up")] = False

    def problems(self) -> Iterable[str]:
        """What is wrong across its fields."""
        if self.ensure == "present" and self.content is None:
            yield "content is needed"
        if self.ensure == "absent" and self.content is not None:
            yield 'content has no meaning with ensure = "absent"'
        if self.after is not None and self.before is not None:
            yield "after and before exclude each other"
        if isinstance(self.content, str) and holds_marker(self.content.encode()):
            yield "content must not hold a line that looks like the marker of a block"

    @property
    def path(self) -> str:
        """The file's path."""
        return self.name.partition("#")[0]

    @property
    def label(self) -> str:
        """The block's name within the file."""
        return self.name.partition("#")[2]

    @property
    def hidden(self) -> bool:
        """Whether its content must not be seen."""
        return self.sensitive or isinstance(self.content, SecretText)

    def desired(self, host: Host) -> State | None:  # noqa: ARG002
        if self.ensure == "absent":
            return None
        text = self.content.reveal() if isinstance(self.content, SecretText) else self.content or ""
        content = text.encode()
        if holds_marker(content):
            raise ResourceError("its content holds a line that looks like the marker of a block")
        if content and not content.endswith(b"\n"):
            content += b"\n"
        return self._state(unix(content), self.comment)

    def _state(self, content: bytes, comment: str) -> dict[str, Any]:
        return {"content": Secret(content) if self.hidden else content, "comment": comment}

    def read(self, host: Host) -> State | None:
        file = self._file(host)
        if file is None:
            if self.ensure == "present" and not self.requires:
                host.files.require_parent(self.path)
            return None
        found = find(file["content"], self.label)
        return None if found is None else self._state(found.content, found.comment)

    def _file(self, host: Host) -> dict[str, Any] | None:
        state = host.files.read(self.path, self.links)
        if state is None:
            return None
        if state["type"] == "link":
            hint = "declare the block in the file that the link points to"
            raise ResourceError(f"{self.path} is a link to {state['target']}", hint=hint)
        if state["type"] != "file" or b"\0" in state["content"]:
            what = "not a text file" if state["type"] == "file" else f"a {state['type']}"
            raise ResourceError(f"{self.path} is {what}, so no block can stand in it")
        return state

    def apply(self, host: Host, change: Change) -> None:
        if change.desired is None:
            self._remove(host)
            return
        content: Any = change.desired["content"]
        if isinstance(content, Secret):
            content = content.reveal()
        self._put(host, content, self.comment)

    def _put(self, host: Host, content: bytes, comment: str) -> None:
        file = self._file(host) or {"content": b"", "mode": "0600" if self.hidden else "0644"}
        text = put(file["content"], self.label, content, comment, after=self.after, before=self.before)
        host.files.replace(self.path, text, mode=file["mode"], links=self.links)

    def _remove(self, host: Host) -> None:
        file = self._file(host)
        if file is not None:
            text = drop(file["content"], self.label)
            host.files.replace(self.path, text, mode=file["mode"], links=self.links)

    def cannot_undo(self, host: Host, before: State | None) -> str:  # noqa: ARG002
        if before is not None and not isinstance(before.get("content"), bytes | Secret):
            raise ResourceError(f"what the block {self.label} in {self.path} held before was not kept")
        return ""

    def undo(self, host: Host, before: State | None) -> None:
        self.cannot_undo(host, before)
        if before is None:
            self._remove(host)
        else:
            content: Any = before["content"]
            if isinstance(content, Secret):
                content = content.reveal()
            self._put(host, content, before["comment"])

    def paths(self) -> Iterable[str]:
        return (self.path,)

    def text_of(self, state: State | None) -> bytes | None:
        content = (state or {}).get("content", b"")
        return None if isinstance(content, Secret) else content

    def temporaries(self) -> Iterable[str]:
        return (temporary_beside(self.path),)
