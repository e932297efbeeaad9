"""Units of the systemd that runs this host."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.errors import Missing, ResourceError
from agent.host import Host
from agent.host.systemd import units
from agent.resource import Change, Resource, differences
from agent.resources.service import Service

pytestmark = pytest.mark.inside

Converge = Callable[[Resource], Change | None]

UNITS = Path("/etc/systemd/system")
VENDOR = Path("/usr/local/lib/systemd/system")
INSTALL = "[Install]\nWantedBy=multi-user.target\n"
SLEEP = "ExecStart=/bin/sleep infinity"


def systemctl(*words: str) -> str:
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False).stdout.strip()


def prop(unit: str, name: str) -> str:
    return systemctl("show", "--value", f"--property={name}", "--", unit)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    # masks first, so that what they hide can be stopped
    for path in [*UNITS.glob("sa-*"), *Path("/run/systemd/system").glob("sa-*")]:
        if path.is_symlink():
            systemctl("unmask", path.name)
            systemctl("unmask", "--runtime", path.name)
    loaded = systemctl("list-units", "--all", "--plain", "--no-legend", "sa-*").splitlines()
    names = {line.split()[0] for line in loaded} | {path.name for path in (*UNITS.glob("sa-*"), *VENDOR.glob("sa-*"))}
    for name in sorted(name for name in names if not name.endswith(".d") and "@." not in name):
        systemctl("disable", name)
        systemctl("disable", "--runtime", name)
        systemctl("stop", name)
        systemctl("reset-failed", name)
    subprocess.run(["sh", "-c", f"rm -rf {UNITS}/sa-* {UNITS}/*/sa-* {VENDOR}/sa-* /run/sa-*"], check=True)
    systemctl("daemon-reload")


@pytest.fixture
def converge(converge: Converge, host: Host) -> Converge:
    """The same, by a host that remembers nothing of what the test did in between."""

    def bring(resource: Resource) -> Change | None:
        host.forget()
        return converge(resource)

    return bring


def write(name: str, *lines: str, install: str = INSTALL, folder: Path = UNITS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    section = "Service" if name.endswith(".service") else name.rpartition(".")[2].capitalize()
    (folder / name).write_text("\n".join([f"[{section}]", *lines, install]))


def changed(change: Change | None) -> dict[str, tuple[object, object]]:
    assert change is not None
    return {each.attribute: (each.actual, each.desired) for each in change.attributes}


def test_started_and_enabled_once(converge: Converge, host: Host) -> None:
    write("sa-a.service", SLEEP)
    service = Service(name="sa-a")
    assert service.summary(host, Change(None, None, ())) == ""
    change = converge(service)
    assert changed(change) == {"running": (False, True), "enabled": (False, True)}
    assert change
    assert service.summary(host, change) == "enable, start"
    assert (prop("sa-a", "ActiveState"), prop("sa-a", "UnitFileState")) == ("active", "enabled")
    assert converge(service) is None
    assert converge(Service(name="sa-a.service")) is None


@pytest.mark.parametrize(
    ("running", "enabled", "difference"),
    [
        (False, True, {"running": (True, False)}),
        (True, False, {"enabled": (True, False)}),
        (False, False, {"running": (True, False), "enabled": (True, False)}),
    ],
)
def test_stopped_and_disabled(
    converge: Converge, running: bool, enabled: bool, difference: dict[str, tuple[bool, bool]]
) -> None:
    write("sa-a.service", SLEEP)
    systemctl("enable", "--now", "sa-a")
    service = Service(name="sa-a", running=running, enabled=enabled)
    assert changed(converge(service)) == difference
    assert prop("sa-a", "ActiveState") == ("active" if running else "inactive")
    assert prop("sa-a", "UnitFileState") == ("enabled" if enabled else "disabled")
    assert converge(service) is None


def test_absent_is_stopped_and_disabled(converge: Converge) -> None:
    service = Service(name="sa-a", ensure="absent")
    assert converge(service) is None  # no such unit
    write("sa-a.service", SLEEP)
    systemctl("enable", "--now", "sa-a")
    assert converge(service) is not None
    assert (prop("sa-a", "ActiveState"), prop("sa-a", "UnitFileState")) == ("inactive", "disabled")
    assert (UNITS / "sa-a.service").exists()
    assert converge(service) is None


def test_absent_stops_what_lost_its_unit_file(converge: Converge) -> None:
    write("sa-a.service", SLEEP)
    systemctl("start", "sa-a")
    (UNITS / "sa-a.service").unlink()
    systemctl("daemon-reload")
    assert converge(Service(name="sa-a", ensure="absent")) is not None
    assert prop("sa-a", "ActiveState") == "inactive"


def test_a_unit_that_does_not_exist(host: Host) -> None:
    for fields in ({}, {"running": False}, {"enabled": False}):
        with pytest.raises(Missing, match=r"the unit sa-none\.service does not exist"):
            Service(name="sa-none", **fields).read(host)
    assert Service(name="sa-none", masked=True).read(host) is not None
    assert Service(name="sa-none", ensure="absent").read(host) is None


def test_a_unit_that_appears_is_found_without_being_told(host: Host) -> None:
    with pytest.raises(Missing):
        Service(name="sa-a").read(host)
    write("sa-a.service", SLEEP)
    host.forget()
    assert Service(name="sa-a").read(host) is not None


def test_masked_and_unmasked(converge: Converge) -> None:
    write("sa-a.service", SLEEP, folder=VENDOR)
    systemctl("enable", "--now", "sa-a")
    masked = Service(name="sa-a", masked=True)
    assert changed(converge(masked)) == {"running": (True, False), "masked": (False, True)}
    assert (prop("sa-a", "LoadState"), prop("sa-a", "ActiveState")) == ("masked", "inactive")
    assert converge(masked) is None
    assert "masked" in changed(converge(Service(name="sa-a")))
    assert (prop("sa-a", "UnitFileState"), prop("sa-a", "ActiveState")) == ("enabled", "active")


def test_a_unit_file_in_the_way_of_its_mask_is_told_before_anything_is_stopped(host: Host) -> None:
    write("sa-a.service", SLEEP)
    systemctl("start", "sa-a")
    masked = Service(name="sa-a", masked=True)
    change = differences(masked.read(host), masked.desired(host))
    assert change is not None
    for attempt in (masked.foresee, masked.apply):
        with pytest.raises(ResourceError, match="cannot be masked"):
            attempt(host, change)
    assert prop("sa-a", "ActiveState") == "active"


def test_a_mask_of_nothing(converge: Converge) -> None:
    masked = Service(name="sa-none", masked=True)
    assert changed(converge(masked)) == {"masked": (False, True)}
    assert converge(masked) is None
    with pytest.raises(Missing, match="does not exist"):
        converge(Service(name="sa-none"))
    assert not (UNITS / "sa-none.service").is_symlink()


def test_a_mask_until_the_next_boot_goes_as_well(converge: Converge) -> None:
    write("sa-a.service", SLEEP, folder=VENDOR)
    systemctl("mask", "--runtime", "sa-a")
    assert changed(converge(Service(name="sa-a")))["masked"] == (True, False)
    assert prop("sa-a", "ActiveState") == "active"


def test_static_units_have_nothing_to_enable(converge: Converge) -> None:
    write("sa-a.service", SLEEP, install="")
    assert changed(converge(Service(name="sa-a"))) == {"running": (False, True)}
    assert prop("sa-a", "UnitFileState") == "static"
    assert converge(Service(name="sa-a", enabled=False)) is None


def test_enabled_until_the_next_boot_is_not_enabled(converge: Converge) -> None:
    write("sa-a.service", SLEEP)
    systemctl("enable", "--runtime", "--now", "sa-a")
    assert changed(converge(Service(name="sa-a"))) == {"enabled": (False, True)}
    systemctl("disable", "sa-a")
    systemctl("enable", "--runtime", "sa-a")
    assert changed(converge(Service(name="sa-a", enabled=False))) == {"enabled": (True, False)}


def test_an_alias_stands_for_its_unit(converge: Converge) -> None:
    write("sa-a.service", SLEEP, install="[Install]\nWantedBy=multi-user.target\nAlias=sa-alias.service\n")
    systemctl("enable", "sa-a")
    assert changed(converge(Service(name="sa-alias"))) == {"running": (False, True)}
    systemctl("stop", "sa-a")
    (UNITS / "multi-user.target.wants/sa-a.service").unlink()
    assert "running" in changed(converge(Service(name="sa-alias")))


def test_an_instance_of_a_template(converge: Converge) -> None:
    write("sa-t@.service", "ExecStart=/bin/sh -c 'echo %i > /run/sa-instance; exec sleep infinity'")
    service = Service(name="sa-t@one.two")
    converge(service)
    assert prop("sa-t@one.two.service", "ActiveState") == "active"
    assert Path("/run/sa-instance").read_text() == "one.two\n"
    assert (UNITS / "multi-user.target.wants/sa-t@one.two.service").is_symlink()
    assert converge(service) is None


def test_socket_timer_path_target_and_mount(converge: Converge) -> None:
    timers = "[Install]\nWantedBy=timers.target\n"
    write("sa-a.service", SLEEP, install="")
    write("sa-a.socket", "ListenStream=/run/sa-socket", install="[Install]\nWantedBy=sockets.target\n")
    write("sa-a.timer", "OnCalendar=2099-01-01", install=timers)
    write("sa-a.path", "PathExists=/run/sa-never")
    (UNITS / "sa-a.target").write_text(f"[Unit]\nDescription=x\n{INSTALL}")
    Path("/run/sa-mount").mkdir()
    mount = "run-sa\\x2dmount.mount"
    (UNITS / mount).write_text(f"[Mount]\nWhat=tmpfs\nWhere=/run/sa-mount\nType=tmpfs\n{INSTALL}")
    try:
        for name in ("sa-a.socket", "sa-a.timer", "sa-a.path", "sa-a.target", mount):
            assert changed(converge(Service(name=name))) == {"running": (False, True), "enabled": (False, True)}, name
            assert converge(Service(name=name)) is None
            assert converge(Service(name=name, ensure="absent")) is not None
        assert prop("sa-a.service", "ActiveState") == "inactive"
    finally:
        systemctl("stop", mount)
        (UNITS / mount).unlink()


def test_many_units_cost_one_call(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    write("sa-a.service", SLEEP)
    write("sa-b.service", SLEEP)
    services = [Service(name=name) for name in ("sa-b", "cron", "sa-a", "sa-b.service", "sa-none", "dbus.socket")]
    calls: list[list[str]] = []
    real = units.observe
    monkeypatch.setattr(units, "observe", lambda words: (calls.append(words), real(words))[1])
    Service.prefetch(host, services)
    states = {service.name: service.read(host) for service in services if service.name != "sa-none"}
    with pytest.raises(Missing):
        services[4].read(host)
    assert len(calls) == 1
    assert states["cron"] is not None
    assert states["cron"]["running"] is True
    assert states["sa-a"] is not None
    assert states["sa-a"]["running"] is False


def test_without_systemd(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "BOOTED", "/nonexistent")
    Service.prefetch(host, [Service(name="cron")])
    with pytest.raises(ResourceError, match="systemd is not running on this host"):
        Service(name="cron").read(host)


# What does not come up


def test_a_failing_start_shows_its_journal(converge: Converge) -> None:
    lines = "; ".join(f"echo line {i}" for i in range(30))
    write("sa-a.service", "Type=notify", f"ExecStart=/bin/sh -c '{lines}; echo cannot bind port 25 >&2; exit 3'")
    with pytest.raises(ResourceError, match=r"sa-a\.service is failed \(exit-code\) after start") as error:
        converge(Service(name="sa-a"))
    assert "cannot bind port 25" in error.value.detail
    assert "line 29" in error.value.detail
    assert len(error.value.detail.splitlines()) <= 15
    assert "journalctl -u sa-a.service" in error.value.hint


def test_the_journal_of_an_earlier_failure_is_not_shown(converge: Converge, host: Host) -> None:
    write("sa-a.service", "ExecStart=/bin/sh -c 'echo the old reason; exit 1'")
    with pytest.raises(ResourceError, match="after start") as error:
        converge(Service(name="sa-a"))
    assert "the old reason" in error.value.detail
    write("sa-a.service", "ExecStart=/bin/sh -c 'echo the new reason; exit 1'")
    host.forget()
    with pytest.raises(ResourceError, match="after start") as error:
        converge(Service(name="sa-a"))
    assert "the new reason" in error.value.detail
    assert "the old reason" not in error.value.detail


def test_a_service_that_dies_after_its_start(converge: Converge) -> None:
    write("sa-a.service", "ExecStart=/bin/sh -c 'sleep 0.2; echo no such database; exit 1'")
    with pytest.raises(ResourceError, match=r"sa-a\.service is failed \(exit-code\) after start") as error:
        converge(Service(name="sa-a"))
    assert "no such database" in error.value.detail


def test_a_service_that_ends_well_at_once_does_not_run(converge: Converge) -> None:
    write("sa-a.service", "ExecStart=/bin/true")
    with pytest.raises(ResourceError, match=r"sa-a\.service is inactive \(dead\) after start"):
        converge(Service(name="sa-a"))


@pytest.mark.parametrize("pause", ["100ms", "30s"])
def test_a_service_that_dies_again_and_again(converge: Converge, host: Host, pause: str) -> None:
    write("sa-a.service", "ExecStart=/bin/sh -c 'echo dying; exit 1'", "Restart=always", f"RestartSec={pause}")
    service = Service(name="sa-a")
    with pytest.raises(ResourceError, match="dies at once after start, again and again") as error:
        converge(service)
    assert "dying" in error.value.detail


@pytest.mark.parametrize(
    "lines",
    [
        (
            "Type=notify",
            "NotifyAccess=all",
            "ExecStart=/bin/sh -c 'systemd-notify --ready; sleep 0.1; echo gone; exit 1'",
        ),
        ("Type=forking", "ExecStart=/bin/sh -c '(sleep 0.1; echo gone; exit 1) &'"),
    ],
    ids=["notify", "forking"],
)
def test_one_that_dies_after_it_said_it_is_ready(converge: Converge, lines: tuple[str, ...]) -> None:
    write("sa-a.service", *lines, "Restart=on-failure", "RestartSec=30s")
    with pytest.raises(ResourceError, match="dies at once after start, again and again") as error:
        converge(Service(name="sa-a"))
    assert "gone" in error.value.detail


def test_one_that_waits_for_its_next_try_does_not_run(host: Host) -> None:
    write("sa-a.service", "ExecStart=/bin/false", "Restart=always", "RestartSec=30s")
    systemctl("enable", "--now", "sa-a")
    time.sleep(0.3)
    assert Service(name="sa-a").read(host)["running"] is False  # type: ignore[index]
    assert Service(name="sa-a", running=False).read(host)["running"] is True  # type: ignore[index]


def test_one_that_waits_for_its_next_try_is_brought_up(converge: Converge, tmp_path: Path) -> None:
    write("sa-a.service", f"ExecStart=/bin/sh -c 'test -e {tmp_path}/there && exec sleep infinity'",
          "Restart=always", "RestartSec=30s")  # fmt: skip
    systemctl("enable", "--now", "sa-a")
    time.sleep(0.3)
    (tmp_path / "there").touch()
    converge(Service(name="sa-a"))
    assert prop("sa-a", "ActiveState") == "active"


def test_an_unmet_condition_is_told(converge: Converge) -> None:
    (UNITS / "sa-a.service").write_text(f"[Unit]\nConditionPathExists=/run/sa-never\n[Service]\n{SLEEP}\n{INSTALL}")
    with pytest.raises(ResourceError, match=r"inactive \(dead\) after start") as error:
        converge(Service(name="sa-a"))
    assert "unmet condition" in error.value.detail


def test_a_failed_service_is_brought_up_again(converge: Converge, host: Host) -> None:
    write("sa-a.service", "ExecStart=/bin/sh -c 'test -e /run/sa-ready && exec sleep infinity'")
    with pytest.raises(ResourceError, match="after start"):
        converge(Service(name="sa-a"))
    Path("/run/sa-ready").touch()
    host.forget()
    service = Service(name="sa-a")
    change = differences(service.read(host), service.desired(host))
    assert change
    assert service.summary(host, change) == "start; it is failed (exit-code)"
    converge(service)


def test_the_limit_of_starts_is_no_obstacle(converge: Converge) -> None:
    (UNITS / "sa-a.service").write_text(
        "[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=1h\n"
        f"[Service]\nExecStart=/bin/sh -c 'test -e /run/sa-ready && exec sleep infinity'\n{INSTALL}"
    )
    statuses = []
    for _ in range(3):
        statuses.append(subprocess.run(["systemctl", "start", "sa-a"], capture_output=True, check=False).returncode)
        time.sleep(0.1)
    assert statuses == [0, 0, 1]
    Path("/run/sa-ready").touch()
    converge(Service(name="sa-a"))
    host = Host()
    for _ in range(3):
        Service(name="sa-a", restart_on=["file:/x"]).refresh(host, ["file:/x"])
    assert prop("sa-a", "ActiveState") == "active"


def test_a_slow_start_is_waited_for(converge: Converge) -> None:
    write("sa-a.service", "Type=forking", "ExecStart=/bin/sh -c 'sleep 1; sleep infinity &'")
    converge(Service(name="sa-a"))
    assert prop("sa-a", "ActiveState") == "active"


def test_one_that_is_starting_is_joined(converge: Converge) -> None:
    write("sa-a.service", "Type=forking", "ExecStart=/bin/sh -c 'sleep 1; sleep infinity &'")
    systemctl("enable", "sa-a")
    systemctl("start", "--no-block", "sa-a")
    time.sleep(0.2)
    assert changed(converge(Service(name="sa-a"))) == {"running": (False, True)}


# Jobs: Type=oneshot


def test_a_job_counts_as_running_once_it_ended_well(converge: Converge, host: Host) -> None:
    write("sa-a.service", "Type=oneshot", "ExecStart=/bin/sh -c 'echo x >> /run/sa-count'", install="")
    service = Service(name="sa-a")
    converge(service)
    assert converge(service) is None
    assert Path("/run/sa-count").read_text() == "x\n"
    service.refresh(Host(run_dir=host.run_dir), ["file:/x"])
    assert Path("/run/sa-count").read_text() == "x\nx\n"
    assert Service(name="sa-a").read(Host(run_dir=host.run_dir + "-next-boot"))["running"] is False  # type: ignore[index]


def test_a_job_that_systemd_remembers(converge: Converge, tmp_path: Path) -> None:
    write("sa-a.service", "Type=oneshot", "ExecStart=/bin/true")
    systemctl("enable", "sa-a")  # multi-user.target refers to it from now on
    systemctl("daemon-reload")
    systemctl("start", "sa-a")
    assert converge(Service(name="sa-a")) is None


def test_a_job_that_failed(converge: Converge) -> None:
    write("sa-a.service", "Type=oneshot", "ExecStart=/bin/sh -c 'echo no luck; exit 1'", install="")
    with pytest.raises(ResourceError, match=r"sa-a\.service is failed \(exit-code\) after start") as error:
        converge(Service(name="sa-a"))
    assert "no luck" in error.value.detail


def test_a_job_that_remains(converge: Converge) -> None:
    write("sa-a.service", "Type=oneshot", "RemainAfterExit=yes", "ExecStart=/bin/true")
    service = Service(name="sa-a")
    converge(service)
    assert prop("sa-a", "SubState") == "exited"
    systemctl("stop", "sa-a")
    assert changed(converge(service)) == {"running": (False, True)}


# Refreshing

RELOADS = (
    "ExecStart=/bin/sh -c 'echo start >> /run/sa-log; exec sleep infinity'",
    "ExecReload=/bin/sh -c 'echo reload >> /run/sa-log'",
)


def log() -> list[str]:
    return Path("/run/sa-log").read_text().split()


def test_restart_and_reload(converge: Converge) -> None:
    write("sa-a.service", *RELOADS)
    service = Service(name="sa-a", restart_on=["file:/a"], reload_on=["file:/b"])
    converge(service)
    service.refresh(Host(), ["file:/b"])
    assert log() == ["start", "reload"]
    service.refresh(Host(), ["file:/b", "file:/a"])
    assert log() == ["start", "reload", "start"]


def test_what_cannot_reload_is_restarted(converge: Converge) -> None:
    write("sa-a.service", SLEEP)
    service = Service(name="sa-a", reload_on=["file:/b"])
    converge(service)
    before = prop("sa-a", "MainPID")
    service.refresh(Host(), ["file:/b"])
    assert prop("sa-a", "MainPID") not in (before, "0")


def test_a_start_fulfils_a_refresh(converge: Converge) -> None:
    write("sa-a.service", SLEEP)
    service = Service(name="sa-a", restart_on=["file:/a"])
    change = converge(service)
    assert change
    assert service.fulfils_refresh(change)
    systemctl("disable", "sa-a")
    change = converge(service)
    assert change
    assert not service.fulfils_refresh(change)


def test_a_stopped_unit_stays_stopped(converge: Converge) -> None:
    write("sa-a.service", *RELOADS)
    service = Service(name="sa-a", running=False, restart_on=["file:/a"])
    converge(service)
    service.refresh(Host(), ["file:/a"])
    assert prop("sa-a", "ActiveState") == "inactive"
    Service(name="sa-a", ensure="absent", restart_on=["file:/a"]).refresh(Host(), ["file:/a"])
    assert prop("sa-a", "ActiveState") == "inactive"


def test_a_refresh_brings_a_failed_unit_up(converge: Converge) -> None:
    write("sa-a.service", *RELOADS)
    service = Service(name="sa-a", reload_on=["file:/b"])
    converge(service)
    systemctl("kill", "--signal=SEGV", "sa-a")
    time.sleep(0.2)
    assert prop("sa-a", "ActiveState") == "failed"
    service.refresh(Host(), ["file:/b"])
    assert log() == ["start", "start"]


def test_a_restart_that_fails(converge: Converge) -> None:
    write("sa-a.service", "ExecStart=/bin/sh -c 'test -e /run/sa-bad && echo bad settings && exit 1; exec sleep 99'")
    service = Service(name="sa-a", restart_on=["file:/a"])
    converge(service)
    Path("/run/sa-bad").touch()
    with pytest.raises(ResourceError, match=r"failed \(exit-code\) after restart") as error:
        service.refresh(Host(), ["file:/a"])
    assert "bad settings" in error.value.detail


def test_a_reload_that_fails(converge: Converge) -> None:
    write("sa-a.service", SLEEP, "ExecReload=/bin/sh -c 'echo syntax error in line 3; exit 1'")
    service = Service(name="sa-a", reload_on=["file:/b"])
    converge(service)
    with pytest.raises(ResourceError, match=r"reload of sa-a\.service failed; it is active") as error:
        service.refresh(Host(), ["file:/b"])
    assert "syntax error in line 3" in error.value.detail


def test_a_service_that_dies_of_its_reload(converge: Converge) -> None:
    write("sa-a.service", SLEEP, "ExecReload=/bin/kill -HUP $MAINPID", "SuccessExitStatus=9")
    service = Service(name="sa-a", reload_on=["file:/b"])
    converge(service)
    with pytest.raises(ResourceError, match="after reload"):
        service.refresh(Host(), ["file:/b"])


# Unit files


def drop_in(text: str) -> None:
    folder = UNITS / "sa-a.service.d"
    folder.mkdir(exist_ok=True)
    (folder / "local.conf").write_text(text)


def test_a_drop_in_is_loaded_before_the_restart(converge: Converge) -> None:
    write("sa-a.service", "ExecStart=/bin/sh -c 'echo $WHO >> /run/sa-log; exec sleep infinity'")
    service = Service(name="sa-a", restart_on=["file:/a"])
    converge(service)
    drop_in("[Service]\nEnvironment=WHO=world\n")
    service.refresh(Host(), ["file:/a"])
    assert log() == ["world"]
    assert prop("sa-a", "NeedDaemonReload") == "no"


def test_a_changed_unit_file_is_loaded(converge: Converge, host: Host) -> None:
    write("sa-a.service", SLEEP)
    converge(Service(name="sa-a"))
    before = prop("sa-a", "MainPID")
    drop_in("[Service]\nEnvironment=A=1\n")
    host.forget()
    service = Service(name="sa-a")
    change = converge(service)
    assert change
    assert changed(change) == {"unit_file": ("changed", "loaded")}
    assert service.summary(host, change) == "daemon-reload"
    assert prop("sa-a", "MainPID") == before
    assert converge(service) is None


def test_a_changed_unit_file_is_loaded_before_the_start(converge: Converge) -> None:
    write("sa-a.service", "Type=oneshot", "ExecStart=/bin/sh -c 'echo old > /run/sa-log'")
    converge(Service(name="sa-a", running=False))
    write("sa-a.service", "Type=oneshot", "ExecStart=/bin/sh -c 'echo new > /run/sa-log'")
    converge(Service(name="sa-a"))
    assert log() == ["new"]


# Undoing


def test_what_was_found_is_put_back(converge: Converge, host: Host) -> None:
    write("sa-a.service", SLEEP, folder=VENDOR)
    systemctl("mask", "sa-a")
    service = Service(name="sa-a")
    before = service.read(host)
    converge(service)
    service.undo(host, before)
    host.forget()
    assert differences(service.read(host), before) is None
    assert prop("sa-a", "LoadState") == "masked"

    systemctl("unmask", "sa-a")
    systemctl("enable", "--now", "sa-a")
    gone = Service(name="sa-a", ensure="absent")
    host.forget()
    before = gone.read(host)
    converge(gone)
    gone.undo(host, before)
    assert (prop("sa-a", "ActiveState"), prop("sa-a", "UnitFileState")) == ("active", "enabled")


def test_what_was_not_there_is_stopped_and_disabled(converge: Converge, host: Host) -> None:
    write("sa-a.service", SLEEP)
    service = Service(name="sa-a")
    converge(service)
    service.undo(host, None)
    assert (prop("sa-a", "ActiveState"), prop("sa-a", "UnitFileState")) == ("inactive", "disabled")
    Service(name="sa-none").undo(host, None)
