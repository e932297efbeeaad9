"""Nobody cuts themselves off: what would is refused, and what is on probation comes to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from netfilter_tools import Net, namespace, refusal, rules

from agent.errors import ResourceError
from agent.host.netfilter import lockout
from agent.host.netfilter import swap as ruleswap
from agent.host.netfilter.lockout import Connection, ssh_connection
from agent.host.netns import throw_away

ROOT = Path(__file__).parents[2]
GUARD = ruleswap.guard
V4 = Connection("198.51.100.7", "192.0.2.1", 22)
V6 = Connection("2001:db8:2::7", "2001:db8:1::1", 22)
DROP = rules("drop", policy="DROP")
SSH = rules("ssh", "-p tcp --dport ssh -j ACCEPT", order=-1)
NEIGHBOURS = rules("icmp", "-6 -p ipv6-icmp -j ACCEPT")
ESTABLISHED = rules("established", "-m conntrack --ctstate ESTABLISHED -j ACCEPT")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    with namespace(tmp_path_factory.mktemp("net")) as net:
        net.run("ip", "-batch", "-", stdin="link add eth0 type veth peer name cable\n"
                "link set eth0 up\nlink set cable up\naddr add 192.0.2.1/24 dev eth0\n"
                "addr add 2001:db8:1::1/64 dev eth0 nodad\naddr add fe80::1/64 dev eth0 nodad\n")  # fmt: skip
        net.run("ipset", "create", "friends", "hash:ip")
        yield net


@pytest.fixture
def net(shared: Net, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Net]:
    """A namespace with an address that ssh connections come to."""
    monkeypatch.setattr(ruleswap, "guard", GUARD)
    monkeypatch.setattr(lockout, "ssh_connection", lambda: V4)
    shared.folder, shared.known = tmp_path, {}
    yield shared
    shared.run("nft", "flush", "ruleset")


@pytest.mark.parametrize(
    ("connection", "declared"),
    [
        (V4, (SSH, DROP)),
        (V4, (ESTABLISHED, rules("ssh", "-4 -i eth0 -s 198.51.100.0/24 -p tcp --syn --dport 22 -j ACCEPT"), DROP)),
        (V4, (rules("v6", "-j DROP", family="ipv6"),)),
        (V6, (SSH, NEIGHBOURS, DROP)),
        (V6, (rules("v4", "-j DROP", family="ipv4"),)),
        (Connection("fe80::7", "fe80::1", 22), (SSH, NEIGHBOURS, DROP)),
        (Connection("127.0.0.1", "127.0.0.1", 2222), (rules("lo", "-i lo -j ACCEPT"), DROP)),
        (Connection("192.0.2.1", "192.0.2.1", 2222), (rules("lo", "-i lo -j ACCEPT"), DROP)),
        (None, (DROP,)),
    ],
)
def test_what_lets_ssh_through(
    net: Net, monkeypatch: pytest.MonkeyPatch, connection: Connection | None, declared: Any
) -> None:
    monkeypatch.setattr(lockout, "ssh_connection", lambda: connection)
    net.apply(*declared)


@pytest.mark.parametrize(
    ("connection", "declared", "what"),
    [
        (V4, (DROP,), "your ssh connection"),
        (V4, (ESTABLISHED, DROP), "new ssh connections"),
        (V4, (rules("ssh", "-i eth1 -p tcp --dport 22 -j ACCEPT"), DROP), "your ssh connection"),
        (V4, (rules("ssh", "-p tcp --dport 2222 -j ACCEPT"), DROP), "your ssh connection"),
        (V4, (rules("out", "-j DROP", chain="OUTPUT"),), "your ssh connection"),
        (V4, (rules("raw", "-p tcp -j DROP", chain="PREROUTING", table="raw"),), "your ssh connection"),
        (V6, (SSH, DROP), "new ssh connections"),  # without neighbour discovery
        (Connection("fe80::7", "fe80::1", 22), (NEIGHBOURS, DROP), "your ssh connection"),
        (Connection("127.0.0.1", "127.0.0.1", 2222), (SSH, DROP), "your ssh connection"),
        (Connection("198.51.100.7", "192.0.2.99", 22), (SSH, DROP), "cannot be told"),
    ],
)
def test_what_would_cut_ssh_off(
    net: Net, monkeypatch: pytest.MonkeyPatch, connection: Connection, declared: Any, what: str
) -> None:
    monkeypatch.setattr(lockout, "ssh_connection", lambda: connection)
    monkeypatch.setattr(lockout, "_PATIENCE", 0.5)
    before = net.saved(), net.saved(v6=True)
    text = refusal(lambda: net.apply(*declared))
    assert what in text
    assert "nothing was touched" in text
    assert "--confirm SECONDS" in text
    assert (net.saved(), net.saved(v6=True)) == before


def test_rules_of_others_and_ipsets_count(net: Net) -> None:
    friends = rules("friends", "-p tcp --dport 22 -m set --match-set friends src -j ACCEPT", family="ipv4")
    drop = rules("drop", policy="DROP", family="ipv4")
    assert "your ssh connection" in refusal(lambda: net.apply(friends, drop))
    net.run("ipset", "add", "friends", V4.client)
    net.apply(friends, drop)
    net.run("iptables", "-I", "OUTPUT", "-d", V4.client, "-j", "DROP")
    assert "new ssh connections" in refusal(lambda: net.apply(friends, drop, SSH))


def test_a_cable_that_carries_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockout, "_CARRIER_WAIT", 0.1)
    with throw_away() as place:
        place.run(["ip", "-batch", "-"], stdin="link add near type veth peer name far\nlink set near up\n")
        with pytest.raises(ResourceError, match="near carries nothing"):
            lockout._await_carrier((place, "near"))
        monkeypatch.setattr(lockout, "_CARRIER_WAIT", 5.0)
        place.run(["ip", "link", "set", "far", "up"])
        lockout._await_carrier((place, "near"), (place, "far"))


def test_undoing_counts_too(net: Net) -> None:
    net.apply(SSH, DROP)
    assert "your ssh connection" in refusal(lambda: SSH.undo(net.host(DROP), None))


def test_the_connection_is_found_through_sudo() -> None:
    code = "from agent.host.netfilter.lockout import ssh_connection; print(ssh_connection())"
    inner = f"env -i PYTHONPATH={ROOT} {sys.executable} -c '{code}'; true"
    over = {**os.environ, "SSH_CONNECTION": "::ffff:198.51.100.7 50000 192.0.2.1 22"}
    done = subprocess.run(["bash", "-c", inner], env=over, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == str(V4)


@pytest.mark.parametrize("text", ["", "nonsense", "a b c d", "1.2.3.4 5 6.7.8.9 x"])
def test_no_connection(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setenv("SSH_CONNECTION", text)
    assert ssh_connection() is None


# On probation: the command itself, in the namespace

SITE = '[iptables.base]\nchain = "INPUT"\npolicy = "{policy}"\nrules = ["-i lo -j ACCEPT"]\n'


class Agent:
    """The command in a namespace, with a site of one resource."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.boot = net.folder / "agent/firewall.ipv4"
        self.confirm = net.folder / "agent/run/confirm"

    def declare(self, policy: str) -> None:
        (self.net.folder / "site.toml").write_text(SITE.format(policy=policy))

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        command = ["ip", "netns", "exec", self.net.name, sys.executable, "-m", "agent", *words]
        command += ["--site", str(self.net.folder / "site.toml"), "--state-dir", str(self.net.folder / "agent")]
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | options
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "SSH_CONNECTION": "198.51.100.7 50000 192.0.2.1 22"}
        return subprocess.Popen(command, text=True, env=environ, start_new_session=True, **given)

    def run(self, *words: str, status: int = 0) -> str:
        process = self.start(*words)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == status, out
        return out

    def waits(self) -> None:
        """Until the new rules are loaded and wait to be confirmed."""
        deadline = time.monotonic() + 20
        while "INPUT DROP" not in self.net.saved() or not (self.confirm / "pending").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def agent(net: Net) -> Agent:
    """The command on a host where it has already run."""
    agent = Agent(net)
    agent.declare("ACCEPT")
    agent.run("apply")
    agent.declare("DROP")
    return agent


def test_refused_by_the_command(agent: Agent) -> None:
    before = agent.net.saved()
    out = agent.run("apply", status=1)
    assert "would cut off your ssh connection from 198.51.100.7 to 192.0.2.1 port 22" in out
    assert "--confirm SECONDS" in out
    assert agent.net.saved() == before
    agent.run("apply", "--check", status=2)


def test_kept_once_confirmed(agent: Agent) -> None:
    waiting = agent.start("apply", "--confirm", "30")
    agent.waits()
    assert "DROP" not in agent.boot.read_text(), "a reboot brings the old rules"
    assert agent.run("confirm") == "the new firewall rules stay\n"
    out, _ = waiting.communicate(timeout=20)
    assert waiting.returncode == 0, out
    assert "press Enter, or run `agent confirm`" in out
    assert "INPUT DROP" in agent.net.saved()
    assert "INPUT DROP" in agent.boot.read_text()
    agent.run("apply", "--check")
    agent.run("confirm", status=1)
    assert agent.run("apply").startswith("nothing changed")


def test_put_back_when_nobody_confirms(agent: Agent) -> None:
    before = agent.net.saved()
    agent.net.run("iptables", "-N", "f2b-x")
    waiting = agent.start("apply", "--confirm", "1")
    agent.net.run("iptables", "-A", "f2b-x", "-s", "203.0.113.9", "-j", "DROP")
    out, _ = waiting.communicate(timeout=20)
    assert waiting.returncode == 1
    assert "nobody confirmed the new rules within 1 s: the old ones are back" in out
    assert [line for line in agent.net.saved().splitlines() if "f2b" not in line] == before.splitlines()
    assert "203.0.113.9" in agent.net.saved(), "what others did meanwhile stays"
    agent.run("apply", "--check", status=2)


def test_rules_of_others_ahead_of_ours_stay_ahead(agent: Agent) -> None:
    agent.net.run("iptables", "-N", "f2b-sshd")
    agent.net.run("iptables", "-I", "INPUT", "-p", "tcp", "--dport", "22", "-j", "f2b-sshd")
    agent.net.apply(rules("base", "-p tcp --dport 22 -j ACCEPT"))
    before = agent.net.rules("INPUT")
    assert "f2b-sshd" in before[0]
    agent.run("apply", "--confirm", "1", status=1)
    assert agent.net.rules("INPUT") == before


def test_not_loaded_again_behind_ones_back(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    agent.run("apply", "--confirm", "1", status=1)
    host = agent.net.host(rules("base", "-i lo -j ACCEPT", policy="DROP"))
    host.state_dir = str(agent.net.folder / "agent")
    monkeypatch.setattr(lockout, "ssh_connection", lambda: None)
    text = refusal(lambda: agent.net.apply(*host.declared, host=host))
    assert "put back before, because nobody confirmed them" in text
    agent.net.apply(rules("base", "-i lo -j ACCEPT", "-j ACCEPT", policy="DROP"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGHUP])
def test_put_back_though_the_agent_is_gone(agent: Agent, how: signal.Signals) -> None:
    before = agent.net.saved()
    waiting = agent.start("apply", "--confirm", "2")
    agent.waits()
    os.killpg(waiting.pid, how)
    deadline = time.monotonic() + 10
    while agent.net.saved() != before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    waiting.communicate(timeout=20)


def test_confirmed_though_the_agent_is_gone(agent: Agent) -> None:
    waiting = agent.start("apply", "--confirm", "2")
    agent.waits()
    os.killpg(waiting.pid, signal.SIGKILL)
    waiting.communicate()
    agent.run("confirm")
    time.sleep(2.5)
    assert "INPUT DROP" in agent.net.saved()


def test_enter_confirms(agent: Agent) -> None:
    near, far = os.openpty()
    os.write(near, b"\n")  # typed before the question
    command = ["setsid", "--ctty", "--wait"]
    waiting = subprocess.Popen(
        [*command, "ip", "netns", "exec", agent.net.name, sys.executable, "-m", "agent", "apply", "--confirm", "20",
         "--site", str(agent.net.folder / "site.toml"), "--state-dir", str(agent.net.folder / "agent")],
        stdin=far, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    agent.waits()
    time.sleep(0.5)
    assert waiting.poll() is None
    os.write(near, b"\n")
    assert waiting.wait(timeout=20) == 0
    assert "INPUT DROP" in agent.net.saved()
    os.close(near)
    os.close(far)


def test_one_at_a_time(agent: Agent) -> None:
    waiting = agent.start("apply", "--confirm", "20")
    agent.waits()
    host = agent.net.host(rules("base", "-j DROP"), confirm_within=5.0)
    host.run_dir = str(agent.net.folder / "agent/run")
    assert "other new rules still wait" in refusal(lambda: agent.net.apply(*host.declared, host=host))
    agent.run("confirm")
    waiting.communicate(timeout=20)


def test_the_first_rules_ever_are_put_back_too(net: Net) -> None:
    agent = Agent(net)
    agent.declare("DROP")
    agent.run("apply", "--confirm", "1", status=1)
    assert "state-agent" not in net.saved()
    assert "DROP" not in net.saved()
    assert not agent.boot.exists()
