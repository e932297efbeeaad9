"""The resident agent under systemd: what is damaged by hand is put right, only that, and recorded as drift."""

from __future__ import annotations

import json
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
[file."/etc/kept/reported"]
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
        "rm -r /etc/kept",
        [
            "directory:/etc/kept", "directory:/etc/kept/deep", "file:/etc/kept/deep/a", "file:/etc/kept/listened",
            "link:/etc/kept/link", "directory:/etc/kept/pure", "service:kept", "file:/etc/kept/reported",
        ],
    ),
    "a link": ("ln -sfn /nowhere /etc/kept/link", ["link:/etc/kept/link"]),
    "undeclared": ("mkdir /etc/kept/pure/x; touch /etc/kept/pure/x/y", ["directory:/etc/kept/pure"]),
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
WAIT = "i=0; until {}; do i=$((i+1)); [ $i -lt 400 ] || exit 1; sleep 0.05; done"


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
    before = status(host)
    while (after := status(host))["rounds"] != before["rounds"]:
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
    assert quiet(host)["summary"].keys() <= {"in-desired-state", "would-change", "would-add"}
    changes = [change for each in runs_since(host, run) for change in each["changes"]]
    assert {change["resource"] for change in changes if change["outcome"] == "done"} <= set(ids)
    causes = {change["resource"]: change["cause"] for change in changes}
    assert causes[ids[0]] == "drift"
    assert {change["cause"] for change in changes} <= {"drift", "refresh"}
