"""Packages: what dpkg has on the host, read straight from its status file, and what apt could install."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from agent.errors import CommandFailed, Missing
from agent.host.apt.versions import matches, newest
from agent.host.run import run

STATUS = "/var/lib/dpkg/status"
LISTS_STALE = "apt-lists-stale"
"""In `Host.done`: a source of packages was changed, so the lists have to be fetched again before an installation."""
LISTS_FRESH = "apt-lists-fresh"
"""In `Host.done`: the lists were fetched in this run."""

_FIELD = re.compile(rb"^(Status|Version|Architecture): (.*)$", re.MULTILINE)
_PROVIDES = re.compile(rb"\nProvides: (.*)\n")
_VERSION_LINE = re.compile(r" (?:\*\*\*|   ) (\S+) -?\d+")
_INSTALLED = ("installed", "triggers-awaited", "triggers-pending")
_GONE = ("not-installed", "config-files")


@dataclass(frozen=True, slots=True)
class Package:
    """One package as dpkg knows it; `status` is dpkg's word, such as `installed` or `half-configured`."""

    name: str
    architecture: str
    version: str
    status: str
    held: bool

    @property
    def installed(self) -> bool:
        """Whether it is wholly there and configured."""
        return self.status in _INSTALLED

    @property
    def gone(self) -> bool:
        """Whether none of its files are there, except perhaps its configuration."""
        return self.status in _GONE


@dataclass(frozen=True, slots=True)
class Policy:
    """What apt could install of one package: its candidate, and all versions that it knows."""

    candidate: str | None
    versions: tuple[str, ...]

    def choice(self, pattern: str | None) -> str | None:
        """The version to install: the candidate, or the highest that the pattern asks for where it is none."""
        if pattern is None or (self.candidate is not None and matches(self.candidate, pattern)):
            return self.candidate
        return newest(version for version in self.versions if matches(version, pattern))


class Dpkg:
    """The packages of the host, read when first asked for and kept until `forget`."""

    def __init__(self, progress: Callable[[str], None], status: str = STATUS) -> None:
        self.progress = progress
        self._status = status
        self._policies: dict[str, dict[str, Policy | None]] = {}

    def forget(self) -> None:
        """Drop what was read, after packages or the lists of apt were changed."""
        self._policies.clear()
        for part in ("_stanzas", "_native", "_provided"):
            self.__dict__.pop(part, None)

    @cached_property
    def _stanzas(self) -> dict[bytes, list[bytes]]:
        """The paragraphs of the status file by package; their fields are parsed only when asked for."""
        try:
            content = Path(self._status).read_bytes()
        except FileNotFoundError:
            raise Missing(f"{self._status} does not exist", hint="is this a Debian host?") from None
        stanzas: dict[bytes, list[bytes]] = {}
        for stanza in content.split(b"\n\n"):
            if stanza.startswith(b"Package: "):
                stanzas.setdefault(stanza[9 : stanza.find(b"\n")], []).append(stanza + b"\n")
        return stanzas

    @cached_property
    def _native(self) -> str:
        """The host's own architecture, which is that of dpkg itself."""
        for stanza in self._stanzas.get(b"dpkg", ()):
            return _parsed("dpkg", stanza).architecture
        return ""

    @cached_property
    def _provided(self) -> frozenset[str]:
        """The virtual packages that installed ones provide."""
        names: set[str] = set()
        for name, stanzas in self._stanzas.items():
            for stanza in stanzas:
                found = _PROVIDES.search(stanza)
                if found and _parsed(name.decode(), stanza).installed:
                    names.update(part.split("(")[0].strip().partition(":")[0] for part in found[1].decode().split(","))
        return frozenset(names)

    def plain(self, name: str) -> str:
        """The name as apt writes it: without the host's own architecture."""
        return name.removesuffix(f":{self._native}") if self._native else name

    def package(self, name: str) -> Package | None:
        """A package by its name; `name:architecture` means that of a foreign architecture."""
        base, _, architecture = self.plain(name).partition(":")
        for stanza in self._stanzas.get(base.encode(), ()):
            package = _parsed(base, stanza)
            wanted = (architecture,) if architecture else (self._native, "all", "")
            if package.architecture in wanted or not self._native:
                return package
        return None

    def is_gone(self, name: str) -> bool:
        """Whether none of the files of a package are there, except perhaps its configuration."""
        package = self.package(name)
        return package is None or package.gone

    def is_held(self, name: str) -> bool:
        """Whether a package is on hold (apt-mark(8))."""
        package = self.package(name)
        return package is not None and package.held

    def provided(self, name: str) -> bool:
        """Whether an installed package provides this one (a virtual package, such as `mail-transport-agent`)."""
        return name in self._provided

    def policies(self, names: Iterable[str], release: str | None = None) -> Mapping[str, Policy]:
        """What apt could install of these, from one `apt-cache policy` for all that were not asked for yet.

        Names that apt has never heard of are left out. Raises Missing where no source offers the release.
        """
        known = self._policies.setdefault(release or "", {})
        asked = list(dict.fromkeys(names))
        unknown = [name for name in asked if name not in known]
        if unknown:
            target = ["-o", f"APT::Default-Release={release}"] if release else []
            try:
                answer = _policies(run(["apt-cache", *target, "policy", *unknown]).stdout)
            except CommandFailed as error:
                if "Default-Release" in error.detail:
                    raise Missing(f'no source of packages offers the release "{release}"') from None
                raise
            known.update({name: answer.get(self.plain(name)) for name in unknown})
        return {name: policy for name in asked if (policy := known[name]) is not None}

    def policy(self, name: str, release: str | None = None) -> Policy | None:
        """What apt could install of one package."""
        return self.policies([name], release).get(name)


def _parsed(name: str, stanza: bytes) -> Package:
    fields = {key: value.decode() for key, value in _FIELD.findall(stanza)}
    want, _, status = fields.get(b"Status", "unknown ok not-installed").split(" ", 2)
    return Package(name, fields.get(b"Architecture", ""), fields.get(b"Version", ""), status, want == "hold")


def _policies(text: str) -> dict[str, Policy]:
    policies: dict[str, Policy] = {}
    name, candidate, versions = "", None, list[str]()
    for line in [*text.splitlines(), "end:"]:
        if not line.startswith(" ") and line.endswith(":"):
            if name:
                policies[name] = Policy(candidate, tuple(versions))
            name, candidate, versions = line[:-1], None, []
        elif line.startswith("  Candidate: "):
            candidate = None if line.endswith(" (none)") else line[13:]
        elif found := _VERSION_LINE.match(line):
            versions.append(found[1])
    return policies
