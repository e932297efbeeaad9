"""A file: its whole content, mode and owner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from agent.errors import ResourceError
from agent.fields import AbsolutePath, AccountName, Argv, Doc, Internal, Mode
from agent.host import Host
from agent.host.paths import temporary_beside
from agent.resource import Change, Resource, State, Undoable
from agent.secret import Secret, SecretText
from agent.sources import At, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class File(Resource, Undoable):
    """A file with exactly this content; it is replaced in one instant, after its new content was validated."""

    kind: ClassVar[str] = "file"
    reaches_far: ClassVar[bool] = False
    files_beside: ClassVar[tuple[str, ...]] = ("source",)
    example: ClassVar[str] = '[file."/etc/motd"]\ncontent = "kept by state-agent\\n"\nmode = "0644"\n'

    name: Annotated[AbsolutePath, Doc("The path")]
    ensure: Annotated[Literal["present", "absent"], Doc("Whether it is there")] = "present"
    content: Annotated[str | SecretText | None, Doc("The content itself")] = None
    template: Annotated[str | None, Doc("A Jinja2 template beside the declaring TOML file")] = None
    source: Annotated[str | None, Doc("A file beside the declaring TOML file, copied byte for byte")] = None
    mode: Annotated[
        Mode | None, Doc('Permission bits; default `"0644"`, or `"0600"` where it is sensitive or holds a secret')
    ] = None
    owner: Annotated[AccountName | None, Doc("The owner; left as it is where not given (root for a new file)")] = None
    group: Annotated[AccountName | None, Doc("The group; left as it is where not given (root for a new file)")] = None
    validate: Annotated[
        Argv | None,
        Doc(
            "A command that must succeed on the new content before it replaces the old: `{file}` is a copy of it under "
            "its own name, `{dir}` the folder of that copy, with the other files of the real folder beside it"
        ),
    ] = None
    sensitive: Annotated[bool, Doc("Its content is never shown, journalled or backed up")] = False
    encoding: Annotated[str, Doc("The encoding of `content` and of the filled-in template")] = "utf-8"
    rendered: Annotated[str | SecretText | None, Internal()] = None

    def problems(self) -> Iterable[str]:
        """What is wrong across its fields."""
        given = [key for key in ("content", "template", "source") if getattr(self, key) is not None]
        if self.ensure == "present" and len(given) != 1:
            yield f"one of content, template and source is needed; {', '.join(given) or 'none'} is given"
        for key in ("template", "source"):
            if getattr(self, key) == "":
                yield f"{key} is empty: it names a file beside the declaring TOML file"
        if self.ensure == "absent" and given:
            yield f'{given[0]} has no meaning with ensure = "absent"'
        try:
            "".encode(self.encoding)
        except LookupError:
            yield f'the encoding "{self.encoding}" is not known'
        else:
            if isinstance(self.content, str):
                try:
                    self.content.encode(self.encoding)
                except UnicodeEncodeError as error:
                    yield f"content cannot be written in {self.encoding}: {error.reason} at character {error.start}"

    @property
    def hidden(self) -> bool:
        """Whether its content must not be seen."""
        return self.sensitive or isinstance(self.content, SecretText) or isinstance(self.rendered, SecretText)

    def desired(self, host: Host) -> State | None:  # noqa: ARG002
        if self.ensure == "absent":
            return None
        content = self._content()
        state: dict[str, Any] = {"type": "file", "content": Secret(content) if self.hidden else content}
        state["mode"] = self.mode or ("0600" if self.hidden else "0644")
        if self.owner is not None:
            state["owner"] = self.owner
        if self.group is not None:
            state["group"] = self.group
        return state

    def _content(self) -> bytes:
        if self.source is not None:
            try:
                with open(self.source, "rb") as source:
                    return source.read()
            except OSError as error:
                raise ResourceError(f"its source {self.source} cannot be read: {error.strerror}") from None
        text = self.content if self.rendered is None else self.rendered
        if isinstance(text, SecretText):
            text = text.reveal()
        try:
            return (text or "").encode(self.encoding)
        except UnicodeEncodeError as error:
            raise ResourceError(f"its content cannot be written in {self.encoding}: {error.reason}") from None

    def read(self, host: Host) -> State | None:
        state = host.files.read(self.name, self.links)
        if state is None and self.ensure == "present" and not self.requires:
            host.files.require_parent(self.name)
        if state is not None and self.hidden and "content" in state:
            state["content"] = Secret(state["content"])
        return state

    def foresee(self, host: Host, change: Change) -> None:
        actual, desired = change.actual, change.desired
        kinds = ("directory",) if desired is None else ("directory", "special file")
        if actual is not None and actual["type"] in kinds:
            hint = f"move it away; a {actual['type']} is never removed for a file"
            raise ResourceError(f"{self.name} is a {actual['type']}", hint=hint)
        if desired is not None:
            host.files.foresee(self.name, self.owner, self.group)

    def apply(self, host: Host, change: Change) -> None:
        self.foresee(host, change)
        actual, desired = change.actual, change.desired
        if desired is None:
            host.files.remove(self.name, self.links)
        elif change.touches("content", "type") or actual is None:
            content: Any = desired["content"]
            if isinstance(content, Secret):
                content = content.reveal()
            self._replace(host, content, desired["mode"])
        else:
            host.files.set_attributes(
                self.name, mode=desired["mode"], owner=self.owner, group=self.group, links=self.links
            )

    def _replace(self, host: Host, content: bytes, mode: str) -> None:
        def validate() -> None:
            if self.validate is not None:
                from agent.host.stage import staged

                staged(host.run_dir, self.name, content, mode, self.validate, quiet=self.hidden)

        host.files.replace(
            self.name, content, mode=mode, owner=self.owner, group=self.group, links=self.links, validate=validate
        )

    def cannot_undo(self, host: Host, before: State | None) -> str:  # noqa: ARG002
        if before is not None and before["type"] != "link" and not isinstance(before.get("content"), bytes | Secret):
            raise ResourceError(f"what {self.name} held before was not kept")
        return ""

    def undo(self, host: Host, before: State | None) -> None:
        self._put_back(host, before)
        if self.name.startswith("/etc/systemd/system/"):
            host.units.reload_files()  # services that stay were looked at before, and none of them requires it any more

    def _put_back(self, host: Host, before: State | None) -> None:
        if before is None:
            host.files.remove(self.name, self.links)
            return
        if before["type"] == "link":
            host.files.remove(self.name, self.links)
            host.files.make_link(self.name, before["target"], self.links)
            return
        self.cannot_undo(host, before)
        content: Any = before["content"]
        if isinstance(content, Secret):
            content = content.reveal()
        host.files.replace(
            self.name,
            content,
            mode=before["mode"],
            owner=before["owner"],
            group=before["group"],
            links=self.links,
        )

    def implied_requires(self) -> Iterable[str]:
        return [f"user:{self.owner}"] * bool(self.owner) + [f"group:{self.group}"] * bool(self.group)

    def paths(self) -> Iterable[str]:
        return (self.name,)

    def text_of(self, state: State | None) -> bytes | None:
        content = (state or {}).get("content", b"")
        return None if isinstance(content, Secret) else content

    def watched(self) -> Iterable[Source]:
        return [At(self.name), *([At(self.source)] if self.source is not None else [])]

    def temporaries(self) -> Iterable[str]:
        return (temporary_beside(self.name),)
