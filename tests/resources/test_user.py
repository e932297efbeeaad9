"""Users, made by shadow-utils."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.errors import Missing, NotPermitted, ResourceError
from agent.host import Host
from agent.resource import Change, Resource
from agent.resources.user import User

pytestmark = pytest.mark.inside

Converge = Callable[[Resource], Change | None]

NAME = "sa-user"
HOME = Path("/home", NAME)
HASH = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7"


def make(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    for name in (NAME, "sa-other"):
        subprocess.run(["userdel", "-r", name], capture_output=True, check=False)
    for name in (NAME, "sa-one", "sa-two", "sa-primary"):
        subprocess.run(["groupdel", name], capture_output=True, check=False)
    subprocess.run(["rm", "-rf", HOME, "/srv/sa-home"], check=False)


@pytest.fixture
def groups() -> None:
    for name in ("sa-one", "sa-two", "sa-primary"):
        make("groupadd", name)


def shadow() -> str:
    lines = Path("/etc/shadow").read_text().splitlines()
    return next(line.split(":")[1] for line in lines if line.startswith(f"{NAME}:"))


def changed(converge: Converge, user: User) -> dict[str, tuple[object, object]]:
    change = converge(user)
    assert change is not None
    return {each.attribute: (each.actual, each.desired) for each in change.attributes}


def test_a_person(converge: Converge) -> None:
    assert converge(User(name=NAME)) is not None
    entry = pwd.getpwnam(NAME)
    assert entry.pw_uid >= 1000
    assert (entry.pw_dir, entry.pw_shell) == (str(HOME), "/bin/bash")
    assert grp.getgrgid(entry.pw_gid).gr_name == NAME
    assert HOME.owner() == NAME
    assert (HOME / ".profile").exists()
    assert shadow() == "!"
    assert converge(User(name=NAME)) is None


def test_a_system_user(converge: Converge) -> None:
    converge(User(name=NAME, system=True))
    entry = pwd.getpwnam(NAME)
    assert entry.pw_uid < 1000
    assert (entry.pw_dir, entry.pw_shell) == ("/nonexistent", "/usr/sbin/nologin")
    assert not HOME.exists()
    assert converge(User(name=NAME, system=True)) is None


def test_every_field_at_once(converge: Converge, groups: None) -> None:
    user = User(  # noqa: S604
        name=NAME, uid=4711, gid="sa-primary", home="/srv/sa-home", shell="/bin/sh", groups=["sa-two", "sa-one"],
        locked=True, comment="-c strange, Ünïcode",
    )  # fmt: skip
    converge(user)
    entry = pwd.getpwnam(NAME)
    assert entry[2:] == (4711, grp.getgrnam("sa-primary").gr_gid, "-c strange, Ünïcode", "/srv/sa-home", "/bin/sh")
    assert Path("/srv/sa-home").owner() == NAME
    assert NAME in grp.getgrnam("sa-one").gr_mem
    assert converge(user) is None


def test_a_group_of_its_name_that_is_there_already(converge: Converge) -> None:
    make("groupadd", "-g", "4711", NAME)
    converge(User(name=NAME))
    assert pwd.getpwnam(NAME).pw_gid == 4711


@pytest.mark.parametrize(
    ("field", "value", "was"),
    [
        ("uid", 4712, 4711),
        ("gid", "sa-one", NAME),
        ("shell", "/usr/sbin/nologin", "/bin/sh"),
        ("comment", "", "first"),
        ("home", "/srv/sa-home", str(HOME)),
        ("groups", ["sa-one", "sa-two"], ["sa-two"]),
        ("groups", [], ["sa-two"]),
    ],
)
def test_one_difference(converge: Converge, groups: None, field: str, value: object, was: object) -> None:
    make("useradd", "-m", "-u", "4711", "-U", "-s", "/bin/sh", "-c", "first", "-G", "sa-two", NAME)
    before = pwd.getpwnam(NAME)
    assert changed(converge, User(name=NAME, **{field: value})) == {field: (was, value)}  # type: ignore[arg-type]
    after = pwd.getpwnam(NAME)
    differing = {i for i in (2, 4, 5, 6) if before[i] != after[i]}  # all but the password and the primary group
    assert len(differing) == (field in ("uid", "shell", "comment", "home"))


def test_undeclared_groups_are_left_alone(converge: Converge, groups: None) -> None:
    make("useradd", "-M", "-G", "sa-one", NAME)
    assert converge(User(name=NAME)) is None
    assert converge(User(name=NAME, groups=["sa-one"])) is None


def test_a_gid_as_a_number(converge: Converge, groups: None) -> None:
    number = grp.getgrnam("sa-primary").gr_gid
    converge(User(name=NAME, gid=number))
    assert pwd.getpwnam(NAME).pw_gid == number
    assert converge(User(name=NAME, gid="sa-primary")) is None
    other = grp.getgrnam("sa-one").gr_gid
    assert changed(converge, User(name=NAME, gid=other)) == {"gid": (number, other)}


def test_the_home_folder_is_never_moved(converge: Converge) -> None:
    converge(User(name=NAME))
    (HOME / "letter").write_text("dear")
    converge(User(name=NAME, home="/srv/sa-home"))
    assert (HOME / "letter").read_text() == "dear"
    assert not Path("/srv/sa-home").exists()


def test_a_home_folder_that_is_there_stays_as_it_is(converge: Converge) -> None:
    HOME.mkdir(mode=0o700)
    converge(User(name=NAME))
    assert HOME.owner() == "root"
    assert list(HOME.iterdir()) == []


def test_locked_and_unlocked(converge: Converge) -> None:
    make("useradd", "-M", "-p", HASH, NAME)
    assert converge(User(name=NAME, locked=False)) is None
    assert changed(converge, User(name=NAME, locked=True)) == {"locked": (False, True)}
    assert shadow() == f"!{HASH}"
    assert changed(converge, User(name=NAME, locked=False)) == {"locked": (True, False)}
    assert shadow() == HASH


def test_nothing_to_unlock(converge: Converge, host: Host) -> None:
    with pytest.raises(ResourceError, match="has no password that could be unlocked"):
        converge(User(name=NAME, locked=False))
    host.forget()
    with pytest.raises(ResourceError, match="has no password that could be unlocked") as error:
        converge(User(name=NAME, locked=False))
    assert error.value.hint == f"set one first: passwd {NAME}"
    assert shadow() == "!"


def test_shadow_is_read_only_when_it_has_to_be(tmp_path: Path) -> None:
    make("useradd", "-M", NAME)
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.setgroups([])
            os.setuid(65534)
            host = Host(run_dir=str(tmp_path))
            assert User(name=NAME, home=str(HOME)).read(host) is not None
            try:
                User(name=NAME, locked=True).read(host)
            except NotPermitted:
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_removed_without_its_home(converge: Converge) -> None:
    converge(User(name=NAME))
    assert converge(User(name=NAME, ensure="absent")) is not None
    with pytest.raises(KeyError):
        pwd.getpwnam(NAME)
    with pytest.raises(KeyError):
        grp.getgrnam(NAME)
    assert (HOME / ".profile").exists()
    assert converge(User(name=NAME, ensure="absent")) is None


def test_a_uid_that_is_taken(converge: Converge) -> None:
    make("useradd", "-M", "-u", "4711", "sa-other")
    with pytest.raises(ResourceError, match="uid 4711 is taken by sa-other"):
        converge(User(name=NAME, uid=4711))
    make("useradd", "-M", NAME)
    with pytest.raises(ResourceError, match="uid 4711 is taken by sa-other"):
        converge(User(name=NAME, uid=4711))


@pytest.mark.parametrize("fields", [{"gid": "sa-none"}, {"gid": 4799}, {"groups": ["sa-none"]}])
def test_a_group_that_is_not_there(converge: Converge, fields: dict[str, object]) -> None:
    with pytest.raises(Missing, match=r"the group (sa-none|4799) does not exist"):
        converge(User(name=NAME, **fields))  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        pwd.getpwnam(NAME)


def test_a_busy_user(converge: Converge, host: Host) -> None:
    converge(User(name=NAME, uid=4711))
    busy = subprocess.Popen(["setpriv", "--reuid", NAME, "--clear-groups", "sleep", "60"])
    try:
        while Path(f"/proc/{busy.pid}").owner() != NAME:
            pass
        with pytest.raises(ResourceError, match="has running processes, so usermod refuses"):
            converge(User(name=NAME, uid=4712))
        assert converge(User(name=NAME, comment="still fine")) is not None
        with pytest.raises(ResourceError, match="has running processes, so userdel refuses"):
            converge(User(name=NAME, ensure="absent"))
    finally:
        busy.kill()
        busy.wait()


def test_a_new_user_is_undone_and_leaves_its_home(converge: Converge, host: Host) -> None:
    user = User(name=NAME)
    converge(user)
    user.undo(host, None)
    host.forget()
    assert user.read(host) is None
    assert HOME.exists()
    user.undo(host, None)


def test_a_change_is_undone(converge: Converge, host: Host, groups: None) -> None:
    make("useradd", "-M", "-u", "4711", "-s", "/bin/sh", "-G", "sa-two", "-p", HASH, NAME)
    user = User(name=NAME, uid=4712, gid="sa-one", shell="/bin/bash", groups=["sa-one"], locked=True)  # noqa: S604
    before = user.read(host)
    converge(user)
    make("usermod", "-c", "of another hand", NAME)
    user.undo(host, before)
    host.forget()
    assert user.read(host) == before
    assert pwd.getpwnam(NAME).pw_gecos == "of another hand"


def test_a_removal_is_undone(converge: Converge, host: Host, groups: None) -> None:
    converge(User(name=NAME, uid=4711, groups=["sa-one"], comment="first"))
    gone = User(name=NAME, ensure="absent")
    before = gone.read(host)
    converge(gone)
    gone.undo(host, before)
    host.forget()
    assert gone.read(host) == before
