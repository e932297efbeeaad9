"""Names and numbers of users and groups, as files carry them."""

from __future__ import annotations

import grp
import pwd

from agent.errors import Missing

_users: dict[int, str] = {}
_groups: dict[int, str] = {}


def user_name(uid: int) -> str:
    """The name of a user, or its number where it has none."""
    if uid not in _users:
        try:
            _users[uid] = pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)
    return _users[uid]


def group_name(gid: int) -> str:
    """The name of a group, or its number where it has none."""
    if gid not in _groups:
        try:
            _groups[gid] = grp.getgrgid(gid).gr_name
        except KeyError:
            return str(gid)
    return _groups[gid]


def forget_names() -> None:
    """Drop what is remembered of users and groups, after they were changed."""
    _users.clear()
    _groups.clear()


def user_id(name: str) -> int:
    """The number of a user, also where `user_name` had only a number; raises Missing where there is none."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        if name.isdecimal():
            return int(name)
        raise Missing(f"the user {name} does not exist", hint="declare it, or require what makes it") from None


def group_id(name: str) -> int:
    """The number of a group, also where `group_name` had only a number; raises Missing where there is none."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        if name.isdecimal():
            return int(name)
        raise Missing(f"the group {name} does not exist", hint="declare it, or require what makes it") from None
