"""What follows from the output of `systemctl show`."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host import Host
from agent.host.systemd.unit import Unit, parse_units
from agent.resource import AttributeChange, Change
from agent.resources.service import Service, unit_name

CRON = """\
Type=simple
RemainAfterExit=no
Result=success
NRestarts=3
ExecMainExitTimestampMonotonic=0
Id=cron.service
LoadState=loaded
ActiveState=active
SubState=running
FragmentPath=/usr/lib/systemd/system/cron.service
UnitFileState=enabled
CanReload=no
NeedDaemonReload=yes
"""
TARGET = """\
Id=reboot.target
LoadState=loaded
ActiveState=inactive
SubState=dead
FragmentPath=/usr/lib/systemd/system/reboot.target
UnitFileState=disabled
CanReload=no
NeedDaemonReload=no
"""
GONE = """\
Type=
Result=success
NRestarts=0
Id=gone.service
LoadState=not-found
ActiveState=inactive
SubState=dead
FragmentPath=
UnitFileState=
CanReload=no
NeedDaemonReload=no
"""


def test_paragraphs_belong_to_the_names_in_their_order() -> None:
    names = ["cron.service", "ctrl-alt-del.target", "gone.service"]
    units = parse_units(f"{CRON}\n{TARGET}\n{GONE}", names)
    assert list(units) == names
    cron, target, gone = units.values()
    assert (cron.up, cron.stale, cron.restarts, cron.exists, cron.state) == (True, True, 3, True, "active (running)")
    assert (target.id, target.up, target.type, target.at_rest) == ("reboot.target", False, "", True)
    assert not gone.exists


def test_output_that_does_not_fit_the_names_is_no_answer() -> None:
    assert parse_units("", ["cron.service"]) == {}
    assert parse_units(CRON, ["cron.service", "gone.service"]) == {}


@pytest.mark.parametrize(
    ("file_state", "when_wanted", "when_not_wanted"),
    [
        ("enabled", True, True),
        ("disabled", False, False),
        ("linked", False, False),
        ("masked", False, False),
        ("bad", False, False),
        *((state, True, False) for state in ("static", "indirect", "generated", "alias", "transient", "")),
    ],
)
def test_what_cannot_be_enabled_is_as_it_is_wanted(file_state: str, when_wanted: bool, when_not_wanted: bool) -> None:
    unit = Unit(id="x.service", file_state=file_state)
    assert (unit.enabled(True), unit.enabled(False)) == (when_wanted, when_not_wanted)


def test_enabled_until_the_next_boot_is_never_enough(tmp_path: Path) -> None:
    fragment = tmp_path / "x.service"
    fragment.write_text("[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")
    unit = Unit(id="x.service", file_state="enabled-runtime", fragment=str(fragment))
    assert (unit.enabled(True), unit.enabled(False)) == (False, True)
    fragment.write_text("[Service]\nExecStart=/bin/true\n")  # enabled by a generator: nothing can be done about it
    assert (unit.enabled(True), unit.enabled(False)) == (True, False)


def test_movement() -> None:
    assert Unit(id="x.service", active="activating", sub="start").moving
    assert Unit(id="x.service", active="reloading", sub="reload").moving
    assert not Unit(id="x.service", active="activating", sub="auto-restart").moving
    assert not Unit(id="x.service", active="activating", sub="auto-restart").at_rest
    assert not Unit(id="x.service", active="failed", sub="failed").moving
    assert Unit(id="x.service", active="failed", sub="failed", result="exit-code").state == "failed (exit-code)"


def test_a_job_that_ended_well() -> None:
    assert Unit(id="x.service", type="oneshot").ended_well
    assert not Unit(id="x.service", type="oneshot", remains=True).ended_well
    assert not Unit(id="x.service", type="oneshot", active="failed", result="exit-code").ended_well
    assert not Unit(id="x.service", type="simple").ended_well


@pytest.mark.parametrize("name", ["postfix", "postfix@-.service", "x@1", "dev-disk\\x2d1.mount", "a.b", "-.mount"])
def test_names_of_units(name: str) -> None:
    assert unit_name(name) == name


@pytest.mark.parametrize("name", ["", "a b", "cr*", "getty@", "getty@.service", "../x", "x" * 256, "x\n"])
def test_what_is_no_name_of_a_unit(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        unit_name(name)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("postfix", "postfix.service"),
        ("postfix.service", "postfix.service"),
        ("dbus.socket", "dbus.socket"),
        ("a.b", "a.b.service"),
        ("x@y.z", "x@y.z.service"),
    ],
)
def test_suffix(name: str, unit: str) -> None:
    assert Service(name=name).unit == unit
    assert Service(name=name).id == f"service:{name}"


def test_restart_wins_over_reload() -> None:
    service = Service(name="x", restart_on=["file:/a"], reload_on=["file:/b", "certificate:c"])
    assert service.listens_to() == ["file:/a", "file:/b", "certificate:c"]
    assert service.refresh_action(["file:/b"]) == "reload"
    assert service.refresh_action(["file:/b", "file:/a"]) == "restart"


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        (Unit(id="x.service"), ""),
        (Unit(id="x.service", active="failed", sub="failed", result="exit-code"), "; it is failed (exit-code)"),
        (Unit(id="x.service", active="activating", sub="auto-restart"), "; it is activating (auto-restart)"),
    ],
)
def test_summary_names_what_is_done_and_why(unit: Unit, said: str) -> None:
    host = Host()
    host.units._known["x.service"] = unit
    actual = {"running": False, "enabled": False, "unit_file": "changed"}
    desired = {"running": True, "enabled": True, "unit_file": "loaded"}
    attributes = tuple(AttributeChange(key, actual[key], desired[key]) for key in desired)
    assert Service(name="x").summary(host, Change(actual, desired, attributes)) == f"enable, start, daemon-reload{said}"
