"""A source of packages for apt, with the key that signs it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from agent.errors import ResourceError
from agent.fields import AbsolutePath, Doc
from agent.host import Host
from agent.host.apt.dpkg import LISTS_STALE
from agent.host.openpgp.armor import armored, problem_of_key
from agent.host.paths import temporary_beside
from agent.resource import Change, Resource, State, Undoable

_FOLDER = "/etc/apt/sources.list.d"
# apt passes over files whose names hold anything else (sources.list(5)).
_LABEL = re.compile(r"[A-Za-z0-9_.-]+")
_URI = re.compile(r"[a-z][a-z0-9+.-]*:\S+")
_WORD = re.compile(r"[^\s#\[\]]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class AptSource(Resource, Undoable):
    """A source of packages in `/etc/apt/sources.list.d/LABEL.sources` (deb822, see sources.list(5)).

    Its signing key stands inside that file, so that a source and the one key that may sign it are put in place in
    one instant and go together. A change makes the next installation of the run fetch apt's lists again.
    """

    kind: ClassVar[str] = "apt_source"
    needs_of_state: ClassVar[tuple[str, ...]] = ()
    files_beside: ClassVar[tuple[str, ...]] = ("key_source",)
    example: ClassVar[str] = (
        '[apt_source.backports]\nuris = ["https://archive.example.net/debian"]\nsuites = ["trixie-backports"]\n'
        'components = ["main"]\nsigned_by = "/usr/share/keyrings/debian-archive-keyring.gpg"\n'
    )

    name: Annotated[str, Doc("Any label; it names the file")]
    ensure: Annotated[Literal["present", "absent"], Doc("Whether it is there")] = "present"
    uris: Annotated[list[str], Doc("Where the archive is, such as `https://deb.example.org/debian`")] = field(
        default_factory=list
    )
    suites: Annotated[
        list[str], Doc("Suites, such as `trixie`; or a path ending in `/` of an archive without suites and components")
    ] = field(default_factory=list)
    components: Annotated[list[str], Doc("Components, such as `main`")] = field(default_factory=list)
    types: Annotated[list[Literal["deb", "deb-src"]], Doc("Binary packages (`deb`), sources (`deb-src`) or both")] = (
        field(default_factory=lambda: ["deb"])
    )
    architectures: Annotated[list[str], Doc("Architectures to take from it; where not given, those of the host")] = (
        field(default_factory=list)
    )
    key: Annotated[str | None, Doc("The key that signs it, as armored text")] = None
    key_source: Annotated[
        str | None, Doc("The key that signs it, as a file beside the declaring TOML file; armored or binary")
    ] = None
    signed_by: Annotated[AbsolutePath | None, Doc("The key that signs it, as a keyring that the host has")] = None
    enabled: Annotated[bool, Doc("Whether apt uses it")] = True

    def problems(self) -> Iterable[str]:
        """What is wrong across its fields."""
        if not _LABEL.fullmatch(self.name):
            yield f'"{self.name}" cannot name a file of sources: letters, digits, "-", "_" and "." only'
        if self.ensure == "absent":
            return
        for key in ("uris", "suites", "types"):
            if not getattr(self, key):
                yield f"{key} is needed"
        keys = [key for key in ("key", "key_source", "signed_by") if getattr(self, key) is not None]
        if len(keys) > 1:
            yield f"only one of key, key_source and signed_by can be given; {' and '.join(keys)} are"
        if self.key is not None and (problem := problem_of_key(self.key.encode())):
            yield f"key: {problem}"
        yield from self._problems_of_words()

    def _problems_of_words(self) -> Iterable[str]:
        flat = [suite for suite in self.suites if suite.endswith("/")]
        if flat and self.components:
            yield f'the suite "{flat[0]}" is a path (it ends in "/"), which has no components'
        if self.suites and len(flat) < len(self.suites) and not self.components:
            yield 'components is needed, unless the suites are paths that end in "/"'
        yield from (f'"{uri}" is not a URI' for uri in self.uris if not _URI.fullmatch(uri))
        for key in ("suites", "components", "architectures"):
            bad = [word for word in getattr(self, key) if not _WORD.fullmatch(word)]
            yield from (f'{key}: "{word}" cannot stand there' for word in bad)

    @property
    def path(self) -> str:
        """The file that it stands in."""
        return f"{_FOLDER}/{self.name}.sources"

    def desired(self, host: Host) -> State | None:  # noqa: ARG002
        if self.ensure == "absent":
            return None
        content = "".join(f"{key}: {value}\n" for key, value in self._stanza()).encode()
        return {"type": "file", "content": content, "mode": "0644", "owner": "root", "group": "root"}

    def _stanza(self) -> Iterable[tuple[str, str]]:
        if not self.enabled:
            yield "Enabled", "no"
        yield "Types", " ".join(self.types)
        yield "URIs", " ".join(self.uris)
        yield "Suites", " ".join(self.suites)
        if self.components:
            yield "Components", " ".join(self.components)
        if self.architectures:
            yield "Architectures", " ".join(self.architectures)
        if self.signed_by is not None:
            yield "Signed-By", self.signed_by
        elif key := self._key():
            lines = [line.strip() or "." for line in key.strip().splitlines()]
            yield "Signed-By", "".join(f"\n {line}" for line in lines)

    def _key(self) -> str:
        if self.key is not None:
            return self.key
        if self.key_source is None:
            return ""
        try:
            content = Path(self.key_source).read_bytes()
        except OSError as error:
            raise ResourceError(f"its key {self.key_source} cannot be read: {error.strerror}") from None
        if problem := problem_of_key(content):
            raise ResourceError(f"its key {self.key_source} is not one: {problem}")
        return armored(content)

    def read(self, host: Host) -> State | None:
        return host.files.read(self.path)

    def apply(self, host: Host, change: Change) -> None:
        if change.desired is None:
            host.files.remove(self.path)
        else:
            self._write(host, change.desired)
        host.done.add(LISTS_STALE)

    def _write(self, host: Host, state: State) -> None:
        host.files.replace(self.path, state["content"], mode=state["mode"], owner=state["owner"], group=state["group"])

    def cannot_undo(self, host: Host, before: State | None) -> str:  # noqa: ARG002
        if before is not None and not isinstance(before.get("content"), bytes):
            raise ResourceError(f"what {self.path} held before was not kept")
        return ""

    def undo(self, host: Host, before: State | None) -> None:
        self.cannot_undo(host, before)
        if before is None:
            host.files.remove(self.path)
        else:
            self._write(host, before)
        host.done.add(LISTS_STALE)

    def paths(self) -> Iterable[str]:
        return (self.path,)

    def text_of(self, state: State | None) -> bytes | None:
        content: bytes = (state or {}).get("content", b"")
        return content

    def temporaries(self) -> Iterable[str]:
        return (temporary_beside(self.path),)
