"""Users and groups: the local files are read once, the programs of shadow-utils change them."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from agent.errors import CommandFailed, NotPermitted, ResourceError
from agent.host.run import run

_BUSY = 8
"""Exit status of usermod(8) and userdel(8) for a user who is logged in or has processes."""


Password = Literal["usable", "locked", "unset"]
"""It lets its user in; it is kept but does not; there is none."""


@dataclass(frozen=True, slots=True)
class UserEntry:
    """One line of /etc/passwd (passwd(5)), without the password field."""

    name: str
    uid: int
    gid: int
    comment: str
    home: str
    shell: str


@dataclass(frozen=True, slots=True)
class GroupEntry:
    """One line of /etc/group (group(5)), without the password field."""

    name: str
    gid: int
    members: tuple[str, ...]


def parse_passwd(text: str) -> dict[str, UserEntry]:
    """The users in the text of /etc/passwd; of two of the same name the first counts, as it does in getpwnam(3)."""
    users: dict[str, UserEntry] = {}
    for fields in _lines(text, 7):
        if fields[2].isdigit() and fields[3].isdigit():
            users.setdefault(fields[0], UserEntry(fields[0], int(fields[2]), int(fields[3]), *fields[4:]))
    return users


def parse_group(text: str) -> dict[str, GroupEntry]:
    """The groups in the text of /etc/group; of two of the same name the first counts."""
    groups: dict[str, GroupEntry] = {}
    for name, _, gid, members in _lines(text, 4):
        if gid.isdigit():
            groups.setdefault(name, GroupEntry(name, int(gid), tuple(filter(None, members.split(",")))))
    return groups


def parse_shadow(text: str) -> dict[str, Password]:
    """Of each user in the text of /etc/shadow, what its password is good for (shadow(5)). Keeps no password."""
    passwords: dict[str, Password] = {}
    for fields in _lines(text, 9):
        kept = fields[1].lstrip("!*")
        usable = not fields[1].startswith(("!", "*"))
        passwords.setdefault(fields[0], "usable" if usable else "locked" if kept else "unset")
    return passwords


def _lines(text: str, count: int) -> list[list[str]]:
    split = (line.split(":") for line in text.split("\n") if line and not line.startswith(("#", "+", "-")))
    return [fields for fields in split if len(fields) == count]


class Accounts:
    """The users and groups of this host, as its own files under `etc` have them."""

    def __init__(self, etc: str = "/etc") -> None:
        self._etc = Path(etc)

    @cached_property
    def users(self) -> Mapping[str, UserEntry]:
        """By name."""
        return parse_passwd(self._text("passwd"))

    @cached_property
    def groups(self) -> Mapping[str, GroupEntry]:
        """By name."""
        return parse_group(self._text("group"))

    @cached_property
    def passwords(self) -> Mapping[str, Password]:
        """What each user's password is good for, by name; raises NotPermitted without root."""
        return parse_shadow(self._text("shadow"))

    def _text(self, name: str) -> str:
        path = self._etc / name
        try:
            return path.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                raise NotPermitted(f"{path} cannot be read without root", hint="run it with sudo") from None
            raise ResourceError(f"{path} cannot be read: {error.strerror}") from None

    def group_name(self, gid: int) -> str:
        """The name of a group, or its number where it has none."""
        return next((group.name for group in self.groups.values() if group.gid == gid), str(gid))

    def has_group(self, group: str | int) -> bool:
        """Whether there is a group of this name or number."""
        return group in self.groups or any(entry.gid == group for entry in self.groups.values())

    def groups_of(self, user: str) -> list[str]:
        """Names of the supplementary groups of a user, sorted."""
        return sorted(group.name for group in self.groups.values() if user in group.members)

    def users_in(self, gid: int) -> list[str]:
        """Names of the users whose primary group this is, sorted."""
        return sorted(user.name for user in self.users.values() if user.gid == gid)

    def check_uid(self, uid: int, name: str) -> None:
        """Raise ResourceError where another user than `name` has this number."""
        _check_free("uid", uid, {user.name for user in self.users.values() if user.uid == uid} - {name})

    def check_gid(self, gid: int, name: str) -> None:
        """Raise ResourceError where another group than `name` has this number."""
        _check_free("gid", gid, {group.name for group in self.groups.values() if group.gid == gid} - {name})

    def change(self, command: Sequence[str]) -> None:
        """Run a program such as usermod(8); the name it is about is the last word of the command.

        Raises ResourceError where the user is busy and the program therefore refuses.
        """
        try:
            run(command)
        except CommandFailed as error:
            if error.status == _BUSY and command[0] in ("usermod", "userdel"):
                raise ResourceError(
                    f"the user {command[-1]} has running processes, so {command[0]} refuses to change it",
                    detail=error.detail,
                    hint=f"stop what runs as {command[-1]} (ps -u {command[-1]}), then apply again",
                ) from None
            raise


def _check_free(kind: str, number: int, holders: set[str]) -> None:
    if holders:
        taken = f"{kind} {number} is taken by {', '.join(sorted(holders))}"
        raise ResourceError(taken, hint=f"declare another {kind}, or none")
