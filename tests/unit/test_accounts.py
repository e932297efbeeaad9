"""The local files of users and groups, and what user and group make of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import ResourceError
from agent.fields import account_id
from agent.host.accounts import Accounts, GroupEntry, UserEntry, parse_group, parse_passwd, parse_shadow
from agent.resources.group import Group
from agent.resources.user import User, account_text

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1::/usr/sbin:/usr/sbin/nologin

# a comment
+nis::::::
half:x:5
words:x:five:5::/:/bin/sh
anna:x:1000:1000:Anna Arendt,,,:/home/anna:/bin/zsh
anna:x:2000:2000:the second:/:/bin/sh
"""
GROUP = """\
root:x:0:
mail:x:8:anna,root
adm:x:4:anna
anna:x:1000:
anna-too:x:1001:annabel
"""
SHADOW = """\
root:*:20000:0:99999:7:::
anna:$y$j9T$salt$hash:20000:0:99999:7:::
bert:!$y$j9T$salt$hash:20000:0:99999:7:::
carl:!:20000::::::
dora:!*:20000::::::
emil::20000::::::
"""


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    for name, text in {"passwd": PASSWD, "group": GROUP, "shadow": SHADOW}.items():
        (tmp_path / name).write_text(text)
    return Accounts(str(tmp_path))


def test_passwd() -> None:
    users = parse_passwd(PASSWD)
    assert list(users) == ["root", "daemon", "anna"]
    assert users["anna"] == UserEntry("anna", 1000, 1000, "Anna Arendt,,,", "/home/anna", "/bin/zsh")


def test_group() -> None:
    groups = parse_group(GROUP)
    assert groups["mail"] == GroupEntry("mail", 8, ("anna", "root"))
    assert groups["root"].members == ()


def test_shadow_keeps_no_password() -> None:
    passwords = parse_shadow(SHADOW)
    assert passwords == {
        "root": "unset", "anna": "usable", "bert": "locked", "carl": "unset", "dora": "unset", "emil": "usable",
    }  # fmt: skip


def test_who_is_where(accounts: Accounts) -> None:
    assert accounts.groups_of("anna") == ["adm", "mail"]
    assert accounts.users_in(1000) == ["anna"]
    assert accounts.group_name(8) == "mail"
    assert accounts.group_name(4711) == "4711"
    assert accounts.has_group("mail")
    assert accounts.has_group(8)
    assert not accounts.has_group("8")
    assert not accounts.has_group(4711)


def test_a_number_is_taken_by_others_only(accounts: Accounts) -> None:
    accounts.check_uid(1000, "anna")
    accounts.check_uid(4711, "anna")
    accounts.check_gid(8, "mail")
    with pytest.raises(ResourceError, match="uid 1000 is taken by anna"):
        accounts.check_uid(1000, "bert")
    with pytest.raises(ResourceError, match="gid 8 is taken by mail"):
        accounts.check_gid(8, "post")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot be read: No such file"):
        _ = Accounts(str(tmp_path)).users


def test_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_bytes(b"m:x:7:7:M\xfcller:/:/bin/sh\n")
    assert Accounts(str(tmp_path)).users["m"].uid == 7


@pytest.mark.parametrize("number", [-1, 65535, 2**32 - 1, 2**32])
def test_what_is_no_number_of_an_account(number: int) -> None:
    with pytest.raises(ValueError, match="is not the number"):
        account_id(number)


@pytest.mark.parametrize("text", ["a:b", "a\nb", "a\rb"])
def test_what_would_break_passwd(text: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in /etc/passwd"):
        account_text(text)


def test_only_what_is_declared_is_desired() -> None:
    assert User(name="anna").desired(None) == {}  # type: ignore[arg-type]
    user = User(name="anna", uid=0, groups=["mail", "adm", "mail"], locked=False, comment="")
    assert user.desired(None) == {  # type: ignore[arg-type]
        "uid": 0, "groups": ["adm", "mail"], "locked": False, "comment": "",
    }  # fmt: skip
    assert User(name="anna", groups=[]).desired(None) == {"groups": []}  # type: ignore[arg-type]


def test_what_a_user_needs_first() -> None:
    user = User(name="anna", gid="mail", groups=["adm"], home="/srv/people/anna")
    needed = list(user.implied_requires())
    assert needed[:2] == ["group:mail", "group:adm"]
    assert {"directory:/srv/people", "link:/srv", "gocryptfs:/srv"} < set(needed)
    assert "directory:/srv/people/anna" not in needed
    assert "directory:/" not in needed
    assert list(User(name="anna", gid=8, system=True).implied_requires()) == []
    assert list(User(name="anna", system=True).implied_requires()) == ["group:anna"]
    assert list(User(name="anna", ensure="absent").implied_requires()) == []
    assert list(Group(name="anna", ensure="absent").implied_requires()) == ["user:anna"]


def test_fields_that_contradict() -> None:
    assert list(User(name="anna", ensure="absent", uid=5, groups=[]).problems()) == [
        'uid has no meaning with ensure = "absent"',
        'groups has no meaning with ensure = "absent"',
    ]
    assert list(Group(name="anna", ensure="absent", gid=4).problems())
