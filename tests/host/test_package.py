"""The Debian package, from its build to its purge, on one host."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import ROOT, TOOL, Installed, machine

pytestmark = pytest.mark.host

SITE = "/etc/state-agent/site.toml"
SMALL = """
[site]
states = ["mailname"]
[values]
domain = "example.net"
[file."/etc/motd"]
content = "kept by state-agent\\n"
"""
WAITS = """
[command.waits]
run = ["sh", "-c", "until [ -e /root/go ]; do sleep 0.1; done"]
creates = "/root/go"
"""
REPLACES = """
[command.replaces]
run = ["env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--install", "/root/older.deb"]
unless = ["sh", "-c", "dpkg-query -W -f '${Version}' state-agent | grep -qx 0.1.0"]
"""


class Packaged(Installed):
    """A host that the package is to be installed in, with an older and a newer one in /root."""

    def __init__(self, name: str, older: Path, newer: Path) -> None:
        self.name = name
        self.tool("up", name, "--owner", str(os.getpid()))
        self.tool("copy", name, str(older), "/root/older.deb")
        self.tool("copy", name, str(newer), "/root/newer.deb")
        self.apt("update")

    def apt(self, *words: str) -> str:
        """apt-get, without questions; gives what it said."""
        done = self.run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", *words, status=None)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    @property
    def version(self) -> str:
        """The version that is installed."""
        return self.out("dpkg-query", "-W", "-f", "${Version}", "state-agent")


def build(folder: Path, *words: str) -> Path:
    """Build the package; gives the .deb."""
    done = machine(str(ROOT / "packaging" / "build"), *words, str(folder), timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.deb"))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The package as it is, which lintian has nothing to say about, and a newer one."""
    folder = tmp_path_factory.mktemp("packages")
    return build(folder / "older", "--lintian"), build(folder / "newer", "--version", "0.1.1")


@pytest.fixture(scope="module")
def host(packages: tuple[Path, Path]) -> Iterator[Packaged]:
    name = f"package-{os.getpid()}"
    yield Packaged(name, *packages)
    machine(TOOL, "down", name)


def test_two_builds_are_bit_for_bit_the_same(packages: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = packages[0].parent, build(tmp_path).parent
    names = {path.name for path in first.iterdir() if path.suffix not in (".buildinfo", ".changes")}
    assert {Path(name).suffix for name in names} == {".deb", ".dsc", ".xz"}
    assert [name for name in names if (first / name).read_bytes() != (second / name).read_bytes()] == []
    shutil.rmtree(second)


def test_install(host: Packaged) -> None:
    host.apt("--no-install-recommends", "install", "/root/older.deb")
    assert host.out("agent", "--version") == "agent 0.1.0"
    assert host.run("python3", "-c", "import agent", status=1).stderr.endswith("No module named 'agent'\n")
    host.write("/opt/other/agent/__init__.py", "raise SystemExit('not this one')\n")
    environ = ("env", "--chdir=/opt/other", "PYTHONPATH=/opt/other", "PYTHONHOME=/nowhere")
    assert host.out(*environ, "agent", "--version") == "agent 0.1.0"
    assert host.out("systemctl", "is-enabled", "state-agent-firewall.service") == "enabled"
    for place in (
        "bash-completion/completions/agent",
        "zsh/vendor-completions/_agent",
        "fish/vendor_completions.d/agent.fish",
    ):
        assert "_AGENT_COMPLETE" in host.read(f"/usr/share/{place}")


def test_the_service_does_nothing_without_a_site(host: Packaged) -> None:
    assert host.run("systemctl", "is-enabled", "state-agent.service", status=1).stdout == "disabled\n"
    host.run("systemctl", "start", "state-agent.service")
    shown = host.out("systemctl", "show", "-P", "ActiveState", "-P", "ConditionResult", "state-agent.service")
    assert shown.split() == ["inactive", "no"]
    assert host.out("systemctl", "is-system-running") == "running"


def test_the_first_site(host: Packaged) -> None:
    assert SITE in host.agent("init", "--domain", "example.net").stdout
    host.agent("validate")
    host.agent("init", "--domain", "example.org", status=3)
    host.write(SITE, SMALL)
    host.agent("apply", "--check", status=2)
    host.agent("apply")
    assert host.outcomes("--check") == {}
    assert host.read("/etc/mailname") == "example.net\n"


def test_an_upgrade_waits_for_a_run_and_restarts_the_resident_agent(host: Packaged) -> None:
    host.sh("systemctl enable --now state-agent.service")
    before = host.out("systemctl", "show", "-P", "InvocationID", "state-agent.service")
    host.write(SITE, SMALL + WAITS)
    wait = "for _ in $(seq 600); do if {}; then exit; fi; sleep 0.1; done; exit 1"
    host.sh(wait.format("! flock --nonblock /run/state-agent/lock true"))
    host.sh("systemd-run --quiet --unit=upgrade sh -c 'dpkg --install /root/newer.deb >/root/said 2>&1'")
    host.sh(wait.format("grep -q 'waiting for a run of the agent' /root/said"))
    assert "0.1.0" in host.read("/var/lib/dpkg/status").split("Package: state-agent\n")[1].split("\n\n")[0]
    host.sh("touch /root/go")
    host.sh(wait.format("! systemctl is-active --quiet upgrade.service"))
    assert host.version == "0.1.1", host.read("/root/said")
    assert host.out("systemctl", "is-active", "state-agent.service") == "active"
    assert host.out("systemctl", "show", "-P", "InvocationID", "state-agent.service") != before
    host.sh("systemctl disable --now state-agent.service")
    assert host.outcomes("--check") == {}
    assert "added" in host.agent("log", "1").stdout


def test_a_run_that_replaces_the_program_does_not_wait_for_itself(host: Packaged) -> None:
    host.write(SITE, SMALL + REPLACES)
    assert host.outcomes() == {"command:replaces": "changed"}
    assert host.version == "0.1.0"
    assert host.outcomes("--check") == {}


def test_nor_does_the_resident_agent(host: Packaged) -> None:
    newer = REPLACES.replace("older", "newer").replace("0.1.0", "0.1.1")
    host.write(SITE, SMALL + newer + '[file."/etc/after"]\ncontent = "x"\nrequires = ["command:replaces"]\n')
    host.sh("systemctl start state-agent")
    host.sh("i=0; until [ -e /etc/after ]; do i=$((i+1)); [ $i -lt 600 ]; sleep 0.1; done; rm /etc/after")
    assert host.version == "0.1.1"
    host.sh("systemctl stop state-agent")
    host.write(SITE, SMALL + REPLACES)


def test_what_stays_when_it_is_removed(host: Packaged) -> None:
    said = host.apt("remove", "state-agent")
    assert "drift is no longer repaired" in said
    assert host.read("/etc/mailname") == "example.net\n"
    assert host.read(SITE) == SMALL + REPLACES
    assert host.sh("ls -d /usr/bin/agent /usr/lib/state-agent /usr/share/state-agent 2>/dev/null || true") == ""
    assert host.out("systemctl", "is-system-running") == "running"


def test_installed_again_it_goes_on(host: Packaged) -> None:
    host.write(SITE, SMALL)
    host.apt("--no-install-recommends", "install", "/root/newer.deb")
    assert host.outcomes("--check") == {}
    assert "added" in host.agent("log", "1").stdout


def test_a_purge_leaves_what_it_names(host: Packaged) -> None:
    host.write("/etc/state-agent/secrets/relay", "canary\n")
    host.sh("systemctl start state-agent-seal-expiry.timer")
    host.sh("test -e /var/lib/systemd/timers/stamp-state-agent-seal-expiry.timer")
    host.write("/etc/systemd/system/state-agent-seal.service.d/places.conf", "[Service]\nEnvironment=SEAL_GRACE=5d\n")
    said = host.apt("purge", "state-agent")
    backup = host.sh("ls -d /var/backups/state-agent-*")
    assert f"kept, for you to remove: /etc/state-agent/secrets, {backup}" in said
    assert "canary" not in said
    assert host.read(f"{backup}/etc/site.toml") == SMALL
    assert host.sh(f"ls {backup}/replaced/backups") != ""
    left = host.sh("find / -xdev -name '*state-agent*' ! -path '/proc/*' ! -path '/root/*' ! -path '/var/cache/apt/*'")
    assert set(left.split("\n")) == {"/etc/state-agent", backup}
    assert host.out("cat", "/etc/mailname") == "example.net"


def test_autopkgtests(host: Packaged, packages: tuple[Path, Path]) -> None:
    host.apt("--no-install-recommends", "install", "autopkgtest")
    host.tool("copy", host.name, str(packages[0].parent), "/root/")
    host.sh("rm -rf /etc/state-agent /etc/mailname")
    script = "cd /root/older; autopkgtest -B --ignore-restrictions=breaks-testbed *.deb *.dsc -- null"
    done = host.run("sh", "-c", script, status=None, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:]
    assert done.stdout.count("PASS") >= 2
