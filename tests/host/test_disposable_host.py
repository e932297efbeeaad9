"""The tool that all other host tests stand on: what it promises about the hosts it makes, seen from outside."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

TOOL = str(Path(__file__).parents[2] / "packaging" / "host")
NAME = f"selftest-{os.getpid()}"


def tool(*words: str, check: bool = True) -> str:
    done = subprocess.run([TOOL, *words], capture_output=True, text=True, timeout=300, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


def inside(*command: str) -> str:
    return tool("run", NAME, "--", *command)


def traces(name: str) -> list[str]:
    """All that the machine still shows of a host: processes, mounts, cgroups, the network, the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            mounts = (process / "mountinfo").read_text()
        except OSError:
            continue
        if f" _keep {name} " in command or f"/hosts/{name}/" in command + mounts:
            found.append(f"process {process.name}: {command}")
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/*-{name}")]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*-{name}")]
    hosts = tool("list").splitlines()
    if not hosts and "STATE_AGENT_HOST_CACHE" not in os.environ:
        found += [str(path) for path in Path("/run/netns").glob("state-agent-host")]
    return found + [line for line in hosts if line.startswith(f"{name}\t")]


@pytest.fixture(scope="module", autouse=True)
def host() -> Iterator[None]:
    tool("up", NAME, "--owner", str(os.getpid()))
    yield
    tool("down", NAME)
    assert traces(NAME) == []


def test_it_runs_systemd_without_a_failed_unit() -> None:
    assert inside("systemctl", "is-system-running") == "running"
    assert inside("cat", "/proc/1/comm") == "systemd"
    assert len(traces(NAME)) > 5, "traces() sees what is there"


def test_it_knows_its_full_name_without_a_resolver() -> None:
    assert inside("timeout", "3", "hostname", "-f") == f"{NAME}.example.test"


def test_exit_status_streams_and_environment_pass_through() -> None:
    script = "echo out; echo err >&2; cat; pwd; env; exit 7"
    command = [TOOL, "run", NAME, "--input", "--", "sh", "-c", script]
    secret = {**os.environ, "LEAK": "from the machine"}
    done = subprocess.run(command, input="in\n", capture_output=True, text=True, timeout=60, check=False, env=secret)
    assert (done.returncode, done.stderr) == (7, "err\n")
    assert done.stdout.startswith("out\nin\n/root\n")
    assert "LC_ALL=C.UTF-8" in done.stdout
    assert "LEAK" not in done.stdout


def test_files_go_in_and_out(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("content")
    tool("copy", NAME, str(tmp_path / "folder"), "/var/run/")
    assert inside("stat", "-c", "%U", "/run/folder/file") == "root"
    tool("fetch", NAME, "/run/folder", str(tmp_path / "back"))
    assert (tmp_path / "back" / "file").read_text() == "content"


def test_packages_install_and_the_firewall_is_its_own() -> None:
    inside("apt-get", "-q", "update")
    inside("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-yq", "install", "iptables")
    inside("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "9", "-j", "DROP")
    assert "--dport 9" in inside("iptables-save")


def test_a_disk_like_any_other() -> None:
    inside("sh", "-ec", "cd /etc; ln hostname twin; test hostname -ef twin; echo >> twin; cmp hostname twin; rm twin")
    inside("perl", "-e", 'rename "/etc/apt", "/etc/x" and rename "/etc/x", "/etc/apt" or die $!')
    assert inside("stat", "-c", "%A %t:%T", "/dev/fuse") == "crw-rw-rw- a:e5"


def test_two_hosts_see_each_other() -> None:
    other = f"{NAME}-other"
    try:
        tool("up", other, "--owner", str(os.getpid()))
        inside("ping", "-c", "1", "-W", "2", tool("address", other))
    finally:
        tool("down", other)
    assert traces(other) == []


@pytest.mark.parametrize("how", [[], ["--hard"]], ids=["soft", "hard"])
def test_a_reboot_keeps_the_disk_and_nothing_else(how: list[str]) -> None:
    inside("sh", "-c", "echo kept > /root/kept; touch /run/forgotten; ip route add blackhole 192.0.2.0/24")
    tool("reboot", NAME, *how)
    assert inside("cat", "/root/kept") == "kept"
    assert "blackhole" not in inside("ip", "route")
    assert "forgotten" not in inside("ls", "/run")


def test_a_host_goes_with_its_owner() -> None:
    orphan = f"{NAME}-orphan"
    owner = subprocess.Popen(["sleep", "600"])
    try:
        tool("up", orphan, "--owner", str(owner.pid))
    finally:
        owner.kill()
        owner.wait()
    deadline = time.monotonic() + 10
    while traces(orphan) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert traces(orphan) == []


def test_down_clears_up_after_a_killed_tool() -> None:
    torn = f"{NAME}-torn"
    process = subprocess.Popen([TOOL, "up", torn])
    time.sleep(0.4)
    process.kill()
    process.wait()
    tool("down", torn)
    assert traces(torn) == []
    tool("down", torn)
