"""A key and its certificate at paths that stay, replaced together.

    DIRECTORY/fullchain.pem → current/fullchain.pem       what services and templates name
    DIRECTORY/privkey.pem   → current/privkey.pem
    DIRECTORY/combined.pem  → current/combined.pem        key, then chain, for programs that read both from one file
    DIRECTORY/current       → versions/ID                 switched in one instant
    DIRECTORY/versions/ID/                                the files themselves; the version before is kept
    DIRECTORY/acme/                                       the account, see agent.host.tls.acme

A new pair is written whole beside the old one, and then `current` is renamed over: whoever opens the files sees the
old pair or the new one. A program that opens two files at the very moment of the switch can still get one of each;
`combined.pem` rules that out.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from agent.errors import ResourceError
from agent.host.files import Files
from agent.host.paths import refused, temporary_name
from agent.host.tls.x509 import Pair

FILES = ("fullchain.pem", "privkey.pem", "combined.pem")
_SECRET = ("privkey.pem", "combined.pem")
_VERSION = re.compile(r"versions/([0-9a-f]{16})")


def label(text: str) -> str:
    """The name of a certificate, which is a folder's name too."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text):
        raise ValueError(f'"{text}" is not the name of a certificate: letters, digits and "._-"')
    return text


@dataclass(frozen=True, slots=True)
class Access:
    """Who may read the key."""

    mode: str
    owner: str
    group: str


_PUBLIC = Access("0644", "root", "root")


@dataclass(frozen=True, slots=True)
class Store:
    """The folder of one certificate."""

    files: Files
    directory: str
    links: Collection[str] = ()

    @property
    def acme(self) -> str:
        """The folder of the ACME client."""
        return f"{self.directory}/acme"

    def _at(self, version: str, name: str) -> str:
        return f"{self.directory}/versions/{version}/{name}"

    def version(self) -> str | None:
        """The version that is in use; None where there is none."""
        current = self.files.read_entry(f"{self.directory}/current", self.links)
        found = _VERSION.fullmatch(current.get("target", "")) if current is not None else None
        return found[1] if found else None

    def exists(self) -> bool:
        """Whether any of the stable paths is there."""
        entries = (self.files.read_entry(f"{self.directory}/{name}", self.links) for name in FILES)
        return any(entry is not None for entry in entries)

    def misplaced(self) -> list[str]:
        """The stable paths that do not lead to the version in use."""
        return [name for name in FILES if self._target(name) != f"current/{name}"]

    def _target(self, name: str) -> str | None:
        entry = self.files.read_entry(f"{self.directory}/{name}", self.links)
        return None if entry is None else entry.get("target")

    def read(self, version: str) -> Pair:
        """The pair of a version; raises ResourceError where a file of it is not there."""
        chain = self._content(version, "fullchain.pem")
        key = self._content(version, "privkey.pem")
        if self._content(version, "combined.pem") != key + chain:
            raise ResourceError("combined.pem is not privkey.pem and fullchain.pem")
        return Pair(chain, key)

    def _content(self, version: str, name: str) -> bytes:
        state = self.files.read(self._at(version, name), self.links)
        if state is None or state["type"] != "file":
            raise ResourceError(f"{name} is not there")
        content: bytes = state["content"]
        return content

    def access(self, version: str) -> Access | None:
        """Who may read the key, None where it is not there."""
        found = []
        for name in _SECRET:
            entry = self.files.read_entry(self._at(version, name), self.links)
            if entry is None:
                return None
            found.append(Access(entry["mode"], entry["owner"], entry["group"]))
        return found[0] if found[0] == found[1] else Access("differing", found[1].owner, found[1].group)

    def issuer(self, version: str, pair: Pair) -> str | None:
        """Who issued the pair, as it was written down with it; None where it is not the one that was written."""
        state = self.files.read(self._at(version, "origin.json"), self.links)
        try:
            origin: Any = json.loads((state or {}).get("content", b"null"))
            return str(origin["issuer"]) if origin["chain"] == pair.digest else None
        except (ValueError, KeyError, TypeError):
            return None

    def put(self, pair: Pair, issuer: str, access: Access) -> None:
        """Put a new pair in place of the old one."""
        self.make_folders()
        version = secrets.token_hex(8)
        self.files.make_directory(f"{self.directory}/versions/{version}", "0755", links=self.links)
        origin = json.dumps({"issuer": issuer, "chain": pair.digest}).encode()
        contents = {"privkey.pem": pair.key, "combined.pem": pair.key + pair.chain}
        for name, content in (contents | {"fullchain.pem": pair.chain, "origin.json": origin}).items():
            who = access if name in _SECRET else _PUBLIC
            self.files.replace(
                self._at(version, name), content, mode=who.mode, owner=who.owner, group=who.group, links=self.links
            )
        self.switch(version)

    def make_folders(self) -> None:
        """The folders for it; everyone may pass, as the files say themselves who reads them."""
        for path in (self.directory, f"{self.directory}/versions"):
            if self.files.read_entry(path, self.links) is None:
                self.files.make_directory(path, "0755", links=self.links)

    def switch(self, version: str) -> None:
        """Bring a version that is there into use, and drop those that are older than the one before it."""
        before = self.version()
        if not os.path.isdir(f"{self.directory}/versions/{version}"):
            raise ResourceError(f"the certificate of before is no longer kept in {self.directory}/versions")
        self.files.make_link(f"{self.directory}/current", f"versions/{version}", self.links)
        self.place()
        self._drop_all_but({version, before})

    def place(self) -> None:
        """Make the stable paths lead to the version in use; a file in place of one is moved aside, to NAME.saved."""
        for name in self.misplaced():
            path = f"{self.directory}/{name}"
            entry = self.files.read_entry(path, self.links)
            if entry is not None and entry["type"] == "file":
                with self.files.folder(path, self.links) as (folder, _):
                    os.rename(name, f"{name}.saved", src_dir_fd=folder, dst_dir_fd=folder)
            self.files.make_link(path, f"current/{name}", self.links)

    def _drop_all_but(self, kept: Collection[str | None]) -> None:
        with contextlib.suppress(OSError):
            for version in os.listdir(f"{self.directory}/versions"):
                if version not in kept:
                    shutil.rmtree(f"{self.directory}/versions/{version}", ignore_errors=True)

    def set_access(self, version: str, access: Access) -> None:
        """Change who may read the key."""
        for name in _SECRET:
            self.files.set_attributes(
                self._at(version, name), mode=access.mode, owner=access.owner, group=access.group, links=self.links
            )

    def remove(self) -> None:
        """Remove all of it, and put back what was moved aside; the folder goes too, where nothing else stands in it."""
        if self.files.read_entry(self.directory, self.links) is None:
            return
        for name in FILES:
            if self._target(name) == f"current/{name}":
                self.files.remove(f"{self.directory}/{name}", self.links)
                with contextlib.suppress(FileNotFoundError):
                    os.rename(f"{self.directory}/{name}.saved", f"{self.directory}/{name}")
        self.files.remove(f"{self.directory}/current", self.links)
        try:
            for name in ("versions", "acme"):
                if os.path.isdir(f"{self.directory}/{name}"):
                    shutil.rmtree(f"{self.directory}/{name}")
            if not os.listdir(self.directory):
                self.files.remove_directory(self.directory, self.links)
        except OSError as error:
            raise refused(self.directory, error) from None


def temporaries(directory: str) -> list[str]:
    """What a killed switch may leave in the folder of a certificate."""
    return [f"{directory}/{temporary_name(f'{directory}/{name}')}" for name in ("current", *FILES)]
