"""The resident agent under systemd: what is damaged by hand is put right, only that, and recorded as drift."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from installed import Installed

pytestmark = pytest.mark.host

SITE = """
[apt.tools]
packages = ["iptables", "gocryptfs", "fuse3"]

[apt.tree]

[user.keeper]
system = true
home = "/var/lib/keeper"
comment = "kept"

[directory."/etc/kept"]
mode = "0750"
[directory."/etc/kept/deep"]
[file."/etc/kept/deep/a"]
content = "a\\n"
owner = "root"
[file."/etc/kept/listened"]
content = "1\\n"
[file."/etc/reported"]
content = "as declared\\n"
drift = "report"
[link."/etc/kept/link"]
target = "deep/a"
[directory."/etc/kept/pure"]
purge = true

[file."/etc/systemd/system/kept.service"]
content = "[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n"
[service.kept]
restart_on = ["file:/etc/kept/listened"]

[iptables.base]
chain = "INPUT"
requires = ["apt:tools"]
rules = ["-i lo -j ACCEPT", "-p tcp --dport 25 -j ACCEPT"]

[secrets.store]
generate = 32
[gocryptfs."/srv/store"]
cipher = "/srv/store.cipher"
passphrase = "{{ secrets.store }}"
requires = ["apt:tools"]
[directory."/srv/store"]
[file."/srv/store/inside"]
content = "inside\\n"
"""
SOUND = {
    "file:/etc/kept/deep/a": "grep -qx a /etc/kept/deep/a && [ $(stat -c %a%U /etc/kept/deep/a) = 644root ]",
    "file:/etc/kept/listened": "grep -qx 1 /etc/kept/listened",
    "directory:/etc/kept": "[ $(stat -c %a /etc/kept) = 750 ]",
    "directory:/etc/kept/deep": "[ -d /etc/kept/deep ]",
    "directory:/etc/kept/pure": '[ -z "$(ls -A /etc/kept/pure)" ]',
    "link:/etc/kept/link": "[ $(readlink /etc/kept/link) = deep/a ]",
    "user:keeper": "getent passwd keeper | grep -q kept",
    "apt:tree": "[ -x /usr/bin/tree ]",
    "service:kept": "systemctl -q is-active kept && systemctl -q is-enabled kept",
    "iptables:base": "iptables -S state-agent-INPUT | grep -q 'dport 25' && iptables -C INPUT -j state-agent-INPUT",
    "gocryptfs:/srv/store": "mountpoint -q /srv/store && [ -e /srv/store/inside ]",
    "file:/srv/store/inside": "grep -qx inside /srv/store/inside",
}
"""How each resource is seen to be as declared."""

DAMAGES = {
    "written to": ("echo x >> /etc/kept/deep/a", ["file:/etc/kept/deep/a"]),
    "written in place by one who keeps it open": (
        "exec 9>/etc/kept/deep/a; echo y >&9; sleep 0.2; exec 9>&-", ["file:/etc/kept/deep/a"],
    ),
    "deleted": ("rm /etc/kept/deep/a", ["file:/etc/kept/deep/a"]),
    "replaced": ("echo z > /etc/kept/n; mv /etc/kept/n /etc/kept/deep/a", ["file:/etc/kept/deep/a"]),
    "mode": ("chmod 600 /etc/kept/deep/a", ["file:/etc/kept/deep/a"]),
    "owner": ("chown nobody /etc/kept/deep/a", ["file:/etc/kept/deep/a"]),
    "mode of a folder": ("chmod 700 /etc/kept", ["directory:/etc/kept"]),
    "a folder is moved": ("mv /etc/kept/deep /root/away", ["directory:/etc/kept/deep", "file:/etc/kept/deep/a"]),
    "and seen again": ("echo x > /etc/kept/deep/a", ["file:/etc/kept/deep/a"]),
    "a tree is deleted": (
        # The agent puts back what is gone while rm still runs: then the folder is not empty at its end.
        "i=0; until rm -r /etc/kept 2>/dev/null; do i=$((i+1)); [ $i -lt 50 ]; done",
        [
            "directory:/etc/kept", "directory:/etc/kept/deep", "file:/etc/kept/deep/a", "file:/etc/kept/listened",
            "link:/etc/kept/link", "directory:/etc/kept/pure", "service:kept",
        ],
    ),
    "a link": ("ln -sfn /nowhere /etc/kept/link", ["link:/etc/kept/link"]),
    "undeclared": ("mkdir /root/x; touch /root/x/y; mv /root/x /etc/kept/pure/", ["directory:/etc/kept/pure"]),
    "what a service listens to": ("rm /etc/kept/listened", ["file:/etc/kept/listened", "service:kept"]),
    "a service is stopped": ("systemctl stop kept", ["service:kept"]),
    "a service is killed": ("systemctl kill -s KILL kept", ["service:kept"]),
    "a service is disabled": ("systemctl -q disable kept", ["service:kept"]),
    "a user is changed": ("usermod -c other keeper", ["user:keeper"]),
    "a user is deleted": ("userdel keeper", ["user:keeper"]),
    "rules are flushed": ("iptables -F", ["iptables:base"]),
    "one rule goes": ("iptables -D state-agent-INPUT 1", ["iptables:base"]),
    "unmounted": ("umount -l /srv/store", ["gocryptfs:/srv/store"]),
    "the daemon is killed": ("kill -9 $(pidof gocryptfs)", ["gocryptfs:/srv/store"]),
    "a file on the mount": ("echo x > /srv/store/inside", ["file:/srv/store/inside"]),
    "a package is removed": ("DEBIAN_FRONTEND=noninteractive apt-get -qq -y remove tree >/dev/null", ["apt:tree"]),
}  # fmt: skip
WAIT = "i=0; until {}; do i=$((i+1)); [ $i -lt 100 ] || exit 1; sleep 0.1; done"


@pytest.fixture(scope="module")
def host(new_host: Callable[[str], Installed]) -> Installed:
    host = new_host("resident")
    host.write("/etc/state-agent/site.toml", SITE)
    host.run("systemctl", "start", "state-agent")
    host.sh(WAIT.format("agent status --quiet && agent status | grep -q watched"))
    return host


def status(host: Installed) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.out("agent", "status", "--json", status=None))
    assert "rounds" in found, "the resident agent does not answer"
    return found


def quiet(host: Installed) -> dict[str, Any]:
    """Wait until the agent has nothing to do any more."""
    deadline = time.monotonic() + 60
    before = status(host)
    while (after := status(host))["rounds"] != before["rounds"] or after["summary"].get("unknown"):
        assert time.monotonic() < deadline, after["summary"]
        before = after
    return after


def runs_since(host: Installed, run: int) -> list[dict[str, Any]]:
    """The runs after this one, the oldest first."""
    runs = json.loads(host.out("agent", "log", "--json", "--limit", "50"))["runs"]
    return [each for each in reversed(runs) if each["run"] > run]


def last_run(host: Installed) -> int:
    return int(json.loads(host.out("agent", "log", "--json", "--limit", "1"))["runs"][0]["run"])


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_put_right_and_nothing_else_is_touched(host: Installed, damage: str) -> None:
    quiet(host)
    run = last_run(host)
    script, ids = DAMAGES[damage]
    host.sh(script)
    for id in ids:
        host.sh(WAIT.format(f"{{ {SOUND.get(id, 'true')}; }}"))
    assert quiet(host)["converged"]
    changes = [change for each in runs_since(host, run) for change in each["changes"]]
    assert {change["resource"] for change in changes if change["outcome"] == "done"} <= set(ids)
    causes = {change["resource"]: change["cause"] for change in changes}
    assert causes[ids[0]] == "drift"
    assert {change["cause"] for change in changes} <= {"drift", "refresh"}


def test_own_writes_wake_nobody(host: Installed) -> None:
    before = quiet(host)["rounds"]
    host.sh("rm /etc/kept/deep/a; " + WAIT.format(f"{{ {SOUND['file:/etc/kept/deep/a']}; }}"))
    assert quiet(host)["rounds"] == before + 1


def test_the_journal_has_fields_of_its_own(host: Installed) -> None:
    host.sh("rm /etc/kept/deep/a; " + WAIT.format(f"{{ {SOUND['file:/etc/kept/deep/a']}; }}"))
    quiet(host)
    words = ("-u", "state-agent", "-o", "json", "-n", "1", "STATE_AGENT_RESOURCE=file:/etc/kept/deep/a")
    entry = json.loads(host.out("journalctl", "--quiet", *words))
    assert entry["STATE_AGENT_CAUSE"] == "drift"
    assert entry["STATE_AGENT_OUTCOME"] == "added"
    assert int(entry["STATE_AGENT_RUN"]) == last_run(host)


def test_only_reported(host: Installed) -> None:
    host.sh("echo mine > /etc/reported")
    host.sh(WAIT.format("agent status | grep -q 'file:/etc/reported.*would-change'"))
    quiet(host)
    assert host.read("/etc/reported") == "mine\n"
    assert host.agent("status", status=2).stdout.count("would-change") == 1
    host.sh("echo as declared > /etc/reported")
    host.sh(WAIT.format("agent status --quiet"))


def test_a_users_apt_is_waited_for(host: Installed) -> None:
    """While somebody holds dpkg's lock, packages and services wait, and all else goes on."""
    lock = (
        "import fcntl, time, sys; f = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, fcntl.LOCK_EX);"
        "open('/run/locked', 'w'); time.sleep(3)"
    )
    host.run(
        "sh", "-euc",
        'dpkg --purge tree >/dev/null; rm -f /run/locked; python3 -c "$0" & '
        + WAIT.format("[ -e /run/locked ]") + "; systemctl stop kept; rm /etc/kept/deep/a; "
        + WAIT.format("[ -e /etc/kept/deep/a ]") + "; ! systemctl -q is-active kept; wait; "
        + WAIT.format("[ -x /usr/bin/tree ] && systemctl -q is-active kept"),
        lock,
    )  # fmt: skip
    assert quiet(host)["converged"]


def test_a_changed_site_is_applied_and_a_wrong_one_is_not(host: Installed) -> None:
    quiet(host)
    run = last_run(host)
    path = "/etc/state-agent/site.toml"
    host.write(path, SITE + '[file."/etc/kept/new"]\ncontent = "n"\n')
    host.sh(WAIT.format("[ -e /etc/kept/new ]"))
    assert [each["resource"] for row in runs_since(host, run) for each in row["changes"]] == ["file:/etc/kept/new"]
    host.write(path, SITE + "[nonsense]\n")
    host.sh(WAIT.format("agent status | grep -q 'the site is wrong'"))
    host.sh("rm /etc/kept/new; " + WAIT.format("[ -e /etc/kept/new ]"))
    host.write(path, SITE)
    host.sh(WAIT.format("agent status --quiet && ! agent status | grep -q wrong"))
    host.run("systemctl", "reload", "state-agent")
    assert host.out("systemctl", "is-active", "state-agent") == "active"


def test_killed_during_repairs_nothing_is_lost(host: Installed) -> None:
    """kill -9 at any moment: systemd starts it again, what was owed is done, nothing is left behind."""
    host.run("python3", "-c", KILLS, timeout=240)
    for id, sound in SOUND.items():
        print(id)
        host.sh(WAIT.format(f"{{ {sound}; }}"))
    host.sh(WAIT.format("agent status --quiet"))
    assert host.out("find", "/etc/kept", "-name", ".state-agent-*") == ""
    assert host.outcomes("--check") == {}


KILLS = """
import os, random, subprocess, time
random.seed(7)
def pid():
    return int(subprocess.check_output(["systemctl", "show", "state-agent", "-P", "MainPID"]))
for number in range(50):
    while not pid() or not os.path.exists("/run/state-agent/agent.sock"):
        time.sleep(0.02)
    for path in random.sample(["/etc/kept/deep/a", "/etc/kept/listened", "/etc/kept/link"], 2):
        if os.path.lexists(path):
            os.unlink(path)
    subprocess.run(["systemctl", "stop", "kept"]) if number % 5 == 0 else None
    time.sleep(random.uniform(0, 0.04))
    if pid():
        os.kill(pid(), 9)
    time.sleep(0.05)
"""


def test_it_costs_little(host: Installed) -> None:
    """Idle it neither runs nor starts anything, and it is small."""
    quiet(host)
    script = (
        "p=$(systemctl show state-agent -P MainPID); c() { awk '{print $14+$15}' /proc/$p/stat; }; "
        "w() { awk '/^voluntary/ {print $2}' /proc/$p/status; }; "
        "a=$(c); b=$(w); sleep 5; echo $(( $(c) - a )) $(( $(w) - b )) $(awk '/VmRSS/ {print $2}' /proc/$p/status)"
    )
    for _ in range(6):  # what was killed just now may still be put off, and so wake it
        ticks, wakes, kilobytes = map(int, host.sh(script).split())
        if wakes <= 3:
            break
    assert ticks <= 1
    assert wakes <= 3
    assert kilobytes < 45 * 1024
