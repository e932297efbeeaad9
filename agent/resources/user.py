"""A user of the local system."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, Literal

from agent.errors import Missing, ResourceError
from agent.fields import AbsolutePath, AccountId, AccountName, Doc, Parsed, account_id, account_name
from agent.host import Host
from agent.resource import Change, Resource, State, Undoable
from agent.sources import At, Source

_OPTIONS = {"uid": "-u", "gid": "-g", "home": "-d", "shell": "-s", "comment": "-c", "groups": "-G"}
"""The options that useradd(8) and usermod(8) have in common."""
_OF_SYSTEM = {"home": "/nonexistent", "shell": "/usr/sbin/nologin"}
_OF_PEOPLE = {"shell": "/bin/bash"}
"""What a new user gets where nothing is declared, as adduser(8) of Debian does it."""


def account_text(text: str) -> str:
    """A text that can stand in a field of /etc/passwd (passwd(5))."""
    if ":" in text or any(ord(letter) < 32 for letter in text):
        raise ValueError(f'"{text}" cannot stand in /etc/passwd: no ":" and no line breaks')
    return text


def group(given: int | str) -> int | str:
    """A group by its number or name."""
    return account_id(given) if isinstance(given, int) else account_name(given)


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Resource, Undoable):
    """A user in /etc/passwd; only what is declared of it is managed.

    A new one gets a group of its own name unless `gid` is given, and no password. Its home folder is made unless
    it is a system user, and never moved or deleted: not when `home` changes, and not when the user is removed.
    """

    kind: ClassVar[str] = "user"
    example: ClassVar[str] = '[user.vmail]\nsystem = true\nhome = "/srv/mail"\n'

    name: Annotated[AccountName, Doc("The user's name")]
    ensure: Annotated[
        Literal["present", "absent"],
        Doc("Whether it exists; one that goes leaves its home folder behind, and takes its own group (userdel(8))"),
    ] = "present"
    uid: Annotated[AccountId | None, Doc("Its number; a change takes the files in its home folder along")] = None
    gid: Annotated[Annotated[int | str, Parsed(group)] | None, Doc("Its primary group, by name or number")] = None
    home: Annotated[
        Annotated[AbsolutePath, Parsed(account_text)] | None,
        Doc("Its home folder, which is never moved; a new system user without one gets `/nonexistent`"),
    ] = None
    shell: Annotated[
        Annotated[AbsolutePath, Parsed(account_text)] | None,
        Doc("Its login shell; a new user without one gets `/bin/bash`, a new system user `/usr/sbin/nologin`"),
    ] = None
    system: Annotated[
        bool, Doc("A number from the range for system users and no home folder made; counts only when it is made")
    ] = False
    groups: Annotated[
        list[AccountName] | None, Doc("Exactly these supplementary groups; where not given, they are left as they are")
    ] = None
    locked: Annotated[
        bool | None, Doc("Whether no password lets it in (keys still do); left as it is where not given")
    ] = None
    comment: Annotated[
        Annotated[str, Parsed(account_text)] | None, Doc("Its full name, or what it is for (the GECOS field)")
    ] = None

    def problems(self) -> Iterable[str]:
        if self.ensure == "absent":
            for key in self._declared():
                yield f'{key} has no meaning with ensure = "absent"'

    def _declared(self) -> dict[str, Any]:
        values = {key: getattr(self, key) for key in (*_OPTIONS, "locked")}
        if self.groups is not None:
            values["groups"] = sorted(set(self.groups))
        return {key: value for key, value in values.items() if value is not None}

    def desired(self, host: Host) -> State | None:  # noqa: ARG002
        return None if self.ensure == "absent" else self._declared()

    def read(self, host: Host) -> State | None:
        accounts = host.accounts
        entry = accounts.users.get(self.name)
        if entry is None:
            return None
        state: dict[str, Any] = {
            "uid": entry.uid,
            "gid": entry.gid if isinstance(self.gid, int) else accounts.group_name(entry.gid),
            "home": entry.home,
            "shell": entry.shell,
            "comment": entry.comment,
            "groups": accounts.groups_of(self.name),
        }
        if self.ensure == "present":
            state = {key: value for key, value in state.items() if getattr(self, key) is not None}
        if self.locked is not None:
            state["locked"] = accounts.passwords.get(self.name, "unset") != "usable"
        return state

    def claims(self) -> Iterable[tuple[str, str]]:
        if self.uid is not None:
            yield f"the uid {self.uid}", f"is given to {self.name}"

    def foresee(self, host: Host, change: Change) -> None:
        if change.desired is not None:
            self._check(host, {each.attribute: each.desired for each in change.attributes})

    def apply(self, host: Host, change: Change) -> None:
        if change.desired is None:
            host.accounts.change(["userdel", self.name])
        elif change.actual is None:
            self._make(host, change.desired, home=not self.system)
        else:
            self._modify(host, {each.attribute: each.desired for each in change.attributes})

    def _make(self, host: Host, values: State, *, home: bool) -> None:
        self._check(host, values)
        own = ["-g", self.name] if self.name in host.accounts.groups else ["-U"]
        filled = (_OF_SYSTEM if self.system else _OF_PEOPLE) | dict(values)
        words = ["-r"] * self.system + ["-m" if home else "-M"] + own * ("gid" not in values) + _options(filled)
        host.accounts.change(["useradd", *words, self.name])
        if values.get("locked") is False:
            raise self._no_password()

    def _modify(self, host: Host, values: State) -> None:
        self._check(host, values)
        if values.get("locked") is False and host.accounts.passwords.get(self.name) != "locked":
            raise self._no_password()
        lock = ["-L" if values["locked"] else "-U"] if "locked" in values else []
        for words in (_options(values), lock):
            if words:
                host.accounts.change(["usermod", *words, self.name])

    def _check(self, host: Host, values: State) -> None:
        """Say what useradd(8) would say less clearly, before anything is changed."""
        if "uid" in values:
            host.accounts.check_uid(values["uid"], self.name)
        for needed in (*values.get("groups", ()), *([values["gid"]] if "gid" in values else [])):
            if not host.accounts.has_group(needed):
                raise Missing(f"the group {needed} does not exist", hint="declare it, or require what makes it")

    def _no_password(self) -> ResourceError:
        return ResourceError(
            f"the user {self.name} has no password that could be unlocked", hint=f"set one first: passwd {self.name}"
        )

    def cannot_undo(self, host: Host, before: State | None) -> str:
        is_there = self.name in host.accounts.users
        return "" if before is None or is_there else "its password was not kept"

    def undo(self, host: Host, before: State | None) -> None:
        now = self.read(host)
        if before is None:
            if now is not None:
                host.accounts.change(["userdel", self.name])
        elif now is None:
            own_group = before.get("gid") == self.name  # it went with the user, and comes back with it
            kept = {key: before[key] for key in _OPTIONS if key in before and not (key == "gid" and own_group)}
            self._make(host, kept, home=False)
        else:
            self._modify(host, {key: value for key, value in before.items() if now.get(key) not in (None, value)})

    def watched(self) -> Iterable[Source]:
        return [At(f"/etc/{name}") for name in ("passwd", "shadow", "group")]

    def implied_requires(self) -> Iterable[str]:
        if self.ensure == "absent":
            return []
        primary = self.name if self.gid is None else self.gid
        groups = [f"group:{name}" for name in (primary, *(self.groups or ())) if isinstance(name, str)]
        return groups if self.system else [*groups, *_places(self.home or f"/home/{self.name}")]


def _places(home: str) -> list[str]:
    """References to what may have to be there before a home folder can be made; not to a resource for the folder
    itself, as that needs its owner first."""
    parents = [str(parent) for parent in PurePosixPath(home).parents][:-1]
    return [f"{kind}:{parent}" for parent in parents for kind in ("directory", "link", "gocryptfs")]


def _options(values: Mapping[str, Any]) -> list[str]:
    words = []
    for key, option in _OPTIONS.items():
        if key in values:
            words += [option, ",".join(values[key]) if key == "groups" else str(values[key])]
    return words
