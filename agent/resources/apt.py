"""Packages of Debian, installed, kept at a version or removed through apt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from agent.errors import Degraded, ResourceError
from agent.fields import Doc, Parsed
from agent.host import Host
from agent.host.apt.debconf import answer_line, problems_of_answer
from agent.host.apt.lists import outdated, refusal, sources_changed
from agent.host.apt.request import Request, plain_request
from agent.host.apt.transaction import Transaction, on_hold
from agent.host.apt.versions import matches, version_key, version_pattern
from agent.resource import Change, Groupable, Prefetching, Resource, State, Undoable
from agent.secret import SecretText
from agent.sources import At, Source

VersionPattern = Annotated[str, Parsed(version_pattern)]

# No package can have this name, so it never collides with one among the attributes.
_HELD = "on hold"
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?")
_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~:/=*_-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Apt(Resource, Prefetching, Groupable, Undoable):
    """Packages of Debian; all that are due together are installed and removed in one transaction of apt.

    A package that is there is left at its version, unless `version` or `ensure = "latest"` asks for another. apt's
    lists are fetched before an installation where they are missing, older than a day or older than their sources;
    nothing else fetches them. apt never removes a package that was not asked to go, and never asks questions.
    """

    kind: ClassVar[str] = "apt"
    example: ClassVar[str] = '[apt.tree]\n\n[apt.pagers]\npackages = ["less", "most"]\n'
    needs_of_state: ClassVar[tuple[str, ...]] = ("apt_source",)
    pending: ClassVar[str] = "is not installed yet"

    name: Annotated[str, Doc("The package (`name` or `name:architecture`), or any label where `packages` is given")]
    packages: Annotated[list[str] | None, Doc("The packages, where they are several")] = None
    version: Annotated[
        VersionPattern | None, Doc('The version of the one package: `"=1.2.3-1"`, `"=1.2*"` or `">=1.2"`')
    ] = None
    ensure: Annotated[
        Literal["present", "latest", "absent", "purged"],
        Doc(
            "Installed in any version (a virtual package also through one that provides it); in the newest version "
            "that apt's lists know; removed; or removed with its configuration"
        ),
    ] = "present"
    hold: Annotated[
        bool | None, Doc("Whether it is on hold (`apt-mark hold`); a held package only changes where this is declared")
    ] = None
    debconf: Annotated[
        dict[str, str | SecretText],
        Doc('Answers given before the installation: `"package/question" = "type value"` (debconf-set-selections(1))'),
    ] = field(default_factory=dict)
    recommends: Annotated[bool, Doc("Whether recommended packages are installed with it")] = False
    release: Annotated[str | None, Doc("The release to take it from (`apt-get -t`), such as `trixie-backports`")] = None

    def problems(self) -> Iterable[str]:
        """What is wrong across its fields."""
        if self.packages is not None and not self.packages:
            yield "packages is empty"
        for name in self.names:
            if not _NAME.fullmatch(name):
                yield f'"{name}" is not the name of a package: lower-case letters, digits, "+", "-" and "."'
        if self.version is not None and (len(self.names) > 1 or self.ensure == "latest"):
            yield 'version has a meaning for one package only, and none with ensure = "latest"'
        if self.release is not None and not _RELEASE.fullmatch(self.release):
            yield f'"{self.release}" is not the name of a release'
        if self.leaving:
            given = [key for key in ("version", "hold", "debconf", "release") if getattr(self, key)]
            yield from (f'{key} has no meaning with ensure = "{self.ensure}"' for key in given)
        for question, answer in self.debconf.items():
            yield from problems_of_answer(question, answer.parts[0] if isinstance(answer, SecretText) else answer)

    @property
    def names(self) -> list[str]:
        """The packages."""
        return [self.name] if self.packages is None else list(dict.fromkeys(self.packages))

    @property
    def leaving(self) -> bool:
        """Whether the packages are to go."""
        return self.ensure in ("absent", "purged")

    def desired(self, host: Host) -> State | None:  # noqa: ARG002
        if self.leaving:
            return None
        state: dict[str, Any] = dict.fromkeys(self.names, self._wanted)
        if self.hold is not None:
            state[_HELD] = self.hold
        return state

    @property
    def _wanted(self) -> str:
        return self.version or ("latest" if self.ensure == "latest" else "installed")

    def read(self, host: Host) -> State | None:
        state: dict[str, Any] = {}
        for name in self.names:
            standing = self._leaving(host, name) if self.leaving else self._standing(host, name)
            if standing is not None:
                state[name] = standing
        if state and not self.leaving:
            packages = [host.dpkg.package(name) for name in self.names]
            held = [package is not None and package.held for package in packages]
            state[_HELD] = all(held) if self.hold else any(held)
        return state or None

    def _standing(self, host: Host, name: str) -> str | None:
        """What is wanted, where that is so; else its version, or dpkg's word for what is half done."""
        package = host.dpkg.package(name)
        if package is None or package.gone:
            virtual = self._wanted == "installed" and host.dpkg.provided(name)
            return "installed" if virtual else None
        if not package.installed:
            return package.status
        if self.version is not None:
            return self.version if matches(package.version, self.version) else package.version
        if self.ensure == "latest":
            policy = host.dpkg.policy(name, self.release)
            newest = policy is None or policy.candidate in (None, package.version)
            return "latest" if newest else package.version
        return "installed"

    def _leaving(self, host: Host, name: str) -> str | None:
        """The version of what is still there."""
        package = host.dpkg.package(name)
        if package is None or package.status == "not-installed":
            return None
        if package.gone:
            return package.status if self.ensure == "purged" else None
        return package.version if package.installed else package.status

    def _unmet(self, host: Host) -> list[str]:
        """The packages that are not as they should be."""
        if self.leaving:
            return [name for name in self.names if self._leaving(host, name) is not None]
        return [name for name in self.names if self._standing(host, name) != self._wanted]

    @classmethod
    def prefetch(cls, host: Host, resources: Sequence[Apt]) -> None:
        """Ask apt once for what it could install of all that are pending or follow the newest version."""
        asked: dict[str | None, list[str]] = {}
        for resource in resources:
            if not resource.leaving:
                names = resource.names if resource.ensure == "latest" else resource._unmet(host)
                asked.setdefault(resource.release, []).extend(names)
        for release, names in asked.items():
            with suppress(ResourceError):  # Whoever needs it asks again, and shows the reason.
                host.dpkg.policies(names, release)

    def claims(self) -> Iterable[tuple[str, str]]:
        for name in self.names:
            yield f"the package {name}", "is removed" if self.leaving else "is installed"
            if self.hold is not None:
                yield f"the hold of the package {name}", "is kept" if self.hold else "is released"

    def foresee(self, host: Host, change: Change) -> None:  # noqa: ARG002
        if self.hold is None and (error := on_hold(host.dpkg, self._unmet(host))):
            raise error

    def check_offered(self, host: Host, planned: Iterable[Resource]) -> None:
        """Lists that an installation would fetch anew tell nothing yet, nor do sources that are still to come."""
        if self.leaving or outdated() or sources_changed() or any(map(_may_add_sources, planned)):
            return
        if error := refusal(host.dpkg, self._request(host)):
            raise error

    def watched(self) -> Iterable[Source]:
        return [At("/var/lib/dpkg/status")]

    def summary(self, host: Host, change: Change) -> str:
        steps = [self._step(host, name, change) for name in self.names if change.touches(name)]
        if self.hold:
            steps += ["hold"] * change.touches(_HELD)
        elif change.actual is not None and change.actual.get(_HELD) and not self.leaving:
            steps += ["release the hold"] * change.touches(_HELD)
        return ", ".join(steps)

    def _step(self, host: Host, name: str, change: Change) -> str:
        label = f"{name} " if len(self.names) > 1 else ""
        actual = (change.actual or {}).get(name)
        if self.leaving:
            verb = "purge" if self.ensure == "purged" else "remove"
            return f"{verb} {label}{'configuration' if actual == 'config-files' else actual}"
        if actual is not None and not actual[:1].isdigit():
            return f"repair {label}({actual})"
        choice = self._choice(host, name)
        if actual is None:
            return f"install {label}{choice}".rstrip()
        verb = "downgrade" if choice and version_key(choice) < version_key(actual) else "upgrade"
        return f"{verb} {label}{actual} → {choice or self._wanted}"

    def _choice(self, host: Host, name: str) -> str:
        policy = None
        with suppress(ResourceError):
            policy = host.dpkg.policy(name, self.release)
        return (policy and policy.choice(self.version)) or ""

    def _request(self, host: Host) -> Request:
        """What it asks of apt."""
        return Request(
            id=self.id,
            packages=tuple(self.names),
            unmet=lambda: self._unmet(host),
            remove=self.leaving,
            purge=self.ensure == "purged",
            version=self.version,
            release=self.release,
            recommends=self.recommends,
            hold=None if self.leaving else self.hold,
            may_change_held=self.hold is not None,
            answers=tuple(self._answers()),
        )

    def _answers(self) -> Iterable[str]:
        for question, answer in self.debconf.items():
            text = answer.reveal() if isinstance(answer, SecretText) else answer
            if "\n" in text:
                raise ResourceError(f"the answer to the debconf question {question} has more than one line")
            yield answer_line(self.names, question, text)

    @classmethod
    def apply_group(cls, host: Host, items: Sequence[tuple[Apt, Change]]) -> Mapping[str, Exception]:
        """Carry all these changes out in as few transactions as possible."""
        errors: dict[str, Exception] = {}
        requests = []
        for resource, _ in items:
            try:
                requests.append(resource._request(host))
            except ResourceError as error:
                errors[resource.id] = error
        return errors | _carried_out(host, requests)

    def apply(self, host: Host, change: Change) -> None:
        for error in self.apply_group(host, [(self, change)]).values():
            raise error

    def cannot_undo(self, host: Host, before: State | None) -> str:
        if self.ensure == "purged" and before:
            return "the configuration that was purged is lost"
        was = {name: str((before or {}).get(name, "")) for name in self.names}
        known = {name: version for name, version in was.items() if version[:1].isdigit()}
        packages = {name: host.dpkg.package(name) for name in known}
        new = [name for name, package in packages.items() if package is None or package.version != known[name]]
        return f"{', '.join(new)} stays in its new version" if new else ""

    def undo(self, host: Host, before: State | None) -> None:
        """Remove what was not there, put back what was, and the hold; a version stays what it has become.

        Raises Degraded for what cannot be put back.
        """
        dpkg, was = host.dpkg, before or {}
        new = [name for name in self.names if name not in was and not dpkg.is_gone(name)]
        old = [name for name in self.names if name in was and was[name] != "config-files"]
        steps = [plain_request(dpkg, f"{self.id} (new)", new, remove=True)] if new else []
        if old:
            hold = None if self.hold is None else was.get(_HELD)
            steps.append(plain_request(dpkg, self.id, old, remove=False, hold=hold))
        for error in _carried_out(host, steps).values():
            raise error
        if left := self.cannot_undo(host, before):
            raise Degraded(left, changed=True)


def _may_add_sources(resource: Resource) -> bool:
    return resource.kind in ("apt_source", "command") or any(p.startswith("/etc/apt/") for p in resource.paths())


def _carried_out(host: Host, requests: Sequence[Request]) -> dict[str, Exception]:
    transaction = Transaction(host.dpkg, host.done, requests)
    try:
        transaction.carry_out()
    finally:
        host.forget()
    return transaction.errors
