"""Groups, made by shadow-utils."""

from __future__ import annotations

import contextlib
import grp
import subprocess
from collections.abc import Callable, Iterator

import pytest

from agent.errors import ResourceError
from agent.host import Host
from agent.resource import Change, Resource, differences
from agent.resources.group import Group

pytestmark = pytest.mark.inside

Converge = Callable[[Resource], Change | None]

NAME = "sa-group"


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    for command in (["userdel", "sa-member"], ["groupdel", NAME], ["groupdel", "sa-other"]):
        subprocess.run(command, capture_output=True, check=False)


def make(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def test_made_once_and_removed_once(converge: Converge) -> None:
    change = converge(Group(name=NAME))
    assert change is not None
    assert change.actual is None
    assert grp.getgrnam(NAME).gr_gid >= 1000
    assert converge(Group(name=NAME)) is None
    assert converge(Group(name=NAME, ensure="absent")) is not None
    assert converge(Group(name=NAME, ensure="absent")) is None
    with pytest.raises(KeyError):
        grp.getgrnam(NAME)


def test_a_system_group_has_a_low_number(converge: Converge) -> None:
    converge(Group(name=NAME, system=True))
    assert grp.getgrnam(NAME).gr_gid < 1000


def test_its_number_is_given_and_changed(converge: Converge) -> None:
    converge(Group(name=NAME, gid=4711))
    assert grp.getgrnam(NAME).gr_gid == 4711
    change = converge(Group(name=NAME, gid=4712))
    assert change is not None
    assert [(each.attribute, each.actual, each.desired) for each in change.attributes] == [("gid", 4711, 4712)]
    assert grp.getgrnam(NAME).gr_gid == 4712


def test_a_number_that_is_taken(converge: Converge) -> None:
    make("groupadd", "-g", "4711", "sa-other")
    with pytest.raises(ResourceError, match="gid 4711 is taken by sa-other"):
        converge(Group(name=NAME, gid=4711))
    converge(Group(name=NAME))
    with pytest.raises(ResourceError, match="gid 4711 is taken by sa-other"):
        converge(Group(name=NAME, gid=4711))


def test_a_primary_group_stays(converge: Converge) -> None:
    make("groupadd", NAME)
    make("useradd", "-M", "-g", NAME, "sa-member")
    with pytest.raises(ResourceError, match=f"the group {NAME} is the primary group of sa-member"):
        converge(Group(name=NAME, ensure="absent"))
    grp.getgrnam(NAME)


def test_a_group_with_members_goes(converge: Converge) -> None:
    make("groupadd", NAME)
    make("useradd", "-M", "-G", NAME, "sa-member")
    converge(Group(name=NAME, ensure="absent"))


def test_undone(converge: Converge, host: Host) -> None:
    group = Group(name=NAME, gid=4711)
    change = converge(group)
    assert change is not None
    group.undo(host, change.actual)
    host.forget()
    assert group.read(host) is None
    group.undo(host, None)

    make("groupadd", "-g", "4720", NAME)
    host.forget()
    before = group.read(host)
    converge(group)
    group.undo(host, before)
    host.forget()
    assert grp.getgrnam(NAME).gr_gid == 4720

    gone = Group(name=NAME, ensure="absent")
    before = gone.read(host)
    converge(gone)
    gone.undo(host, before)
    host.forget()
    assert grp.getgrnam(NAME).gr_gid == 4720


def test_reading_changes_nothing(host: Host) -> None:
    group = Group(name=NAME)
    assert differences(group.read(host), group.desired(host)) is not None
    with contextlib.suppress(KeyError):
        grp.getgrnam(NAME)
        pytest.fail("reading made it")
