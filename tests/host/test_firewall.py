"""The firewall of a whole host: loaded again at boot before the network is up, and on probation under systemd."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from installed import Installed

pytestmark = pytest.mark.host

SITE = """
[apt.firewall]
packages = ["iptables", "ipset"]

[iptables.base]
chain = "INPUT"
policy = "{policy}"
requires = ["apt:firewall"]
rules = ["-i lo -j ACCEPT", "-m conntrack --ctstate ESTABLISHED -j ACCEPT", "-6 -p ipv6-icmp -j ACCEPT"]

[iptables.friends]
chain = "INPUT"
family = "ipv4"
requires = ["apt:firewall", "command:set"]
rules = ["-p tcp --dport 25 -m set --match-set friends src -j ACCEPT"]

[command.set]
requires = ["apt:firewall"]
run = ["ipset", "create", "friends", "hash:ip"]
unless = ["ipset", "list", "-name", "friends"]
"""
PATH = "/etc/state-agent/site.toml"


@pytest.fixture(scope="module")
def host(new_host: Callable[[str], Installed]) -> Installed:
    host = new_host("firewall")
    host.write(PATH, SITE.format(policy="DROP"))
    return host


def rules(host: Installed) -> list[str]:
    text = host.out("iptables-save") + host.out("ip6tables-save")
    return [line for line in text.splitlines() if line[:1] in "-:*" and "ACCEPT [" not in line]


def test_one_run_installs_and_loads(host: Installed) -> None:
    assert host.outcomes()["iptables:base"] in ("added", "changed")
    assert host.outcomes("--check") == {}
    assert any("state-agent:friends" in rule for rule in rules(host))


def test_loaded_at_boot_before_the_network(host: Installed) -> None:
    before = rules(host)
    host.tool("reboot", host.name, "--hard")
    assert rules(host) == before
    assert host.outcomes("--check") == {}, "the ipset that the rules need is there as well"
    unit = host.sh("systemctl show -p ActiveState,Result state-agent-firewall.service")
    assert "ActiveState=active" in unit
    order = host.sh("systemctl list-dependencies --plain --before state-agent-firewall.service")
    assert "network-pre.target" in order
    assert host.out("systemctl", "is-system-running") == "running"


def test_put_back_by_a_process_outside_of_the_session(host: Installed) -> None:
    before = rules(host)
    host.write(PATH, SITE.format(policy="ACCEPT"))
    host.sh("systemd-run --quiet --unit=session agent apply --confirm 4")
    host.sh(
        "until [ -e /run/state-agent/confirm/pending ] && iptables -S INPUT | grep -q 'INPUT ACCEPT'; do sleep .1; done"
    )
    assert "agent.host.netfilter.confirm" in host.sh("systemctl status '*.scope' --no-pager --full")
    host.sh("systemctl kill --signal=KILL session.service")  # all that it started in its own cgroup
    assert rules(host) != before
    time.sleep(5)
    assert rules(host) == before
    host.agent("apply", "--check", status=2)


def test_rules_are_gone_with_the_last_declaration(host: Installed) -> None:
    host.write(PATH, SITE.format(policy="ACCEPT"))
    host.outcomes("--confirm", "1", status=1)
    host.write(PATH, '[iptables.base]\nensure = "absent"\n[iptables.friends]\nensure = "absent"\n')
    host.outcomes()
    assert "state-agent" not in host.out("iptables-save") + host.out("ip6tables-save")
    host.tool("reboot", host.name)
    assert "state-agent" not in host.out("iptables-save")
