"""The resident agent with the rules of a network namespace of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from netfilter_tools import Net, namespace
from residence import Residence, counting

from agent.engine import Engine
from agent.host import Host
from agent.host.netfilter.iptables import Netfilter
from agent.resources.file import File
from agent.watch.calm import VAIN

SITE = """
[iptables.base]
chain = "INPUT"
rules = ["-i lo -j ACCEPT", "-p tcp --dport 25 -j ACCEPT"]
[iptables.out]
chain = "OUTPUT"
rules = ["-p tcp --dport 6667 -j DROP"]
[file."HOST/a"]
content = "a"
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Residence, Net]]:
    (tmp_path / "site.toml").write_text(SITE.replace("HOST", str(tmp_path / "host")))
    real = Engine._host

    def inside(self: Engine, journal: object) -> Host:
        host = real(self, journal)  # type: ignore[arg-type]
        host.namespace = net.path
        return host

    with namespace(tmp_path) as net, mock.patch.object(Engine, "_host", inside):
        residence = Residence(tmp_path, netns=net.path)
        residence.settle()
        yield residence, net
        residence.agent.close()


@pytest.mark.parametrize(
    "damage",
    [
        ["iptables", "-F", "state-agent-INPUT"],
        ["iptables", "-D", "INPUT", "-j", "state-agent-INPUT"],
        ["ip6tables", "-A", "state-agent-INPUT", "-j", "DROP"],
    ],
    ids=" ".join,
)
def test_rules_are_put_right_and_own_writes_wake_nobody(place: tuple[Residence, Net], damage: list[str]) -> None:
    residence, net = place
    sound, rounds, runs = net.rules(), residence.rounds, residence.runs()
    sound6, jump = net.rules(v6=True), net.rules("INPUT")
    with counting(File) as counted:
        net.run(*damage)
        residence.until(lambda: residence.rounds > rounds)
        residence.settle()
    assert (net.rules(), net.rules(v6=True), net.rules("INPUT")) == (sound, sound6, jump)
    assert residence.rounds == rounds + 1
    assert residence.runs() == runs + 1
    assert counted.read == []
    assert residence.changes()[-1] == ("iptables:base", "drift", "done")


def test_what_others_do_while_rules_are_swapped_is_seen(
    place: tuple[Residence, Net], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notice of the kernel concerns all rules: that of somebody else comes among those of the agent's own swap."""
    residence, net = place
    sound, restore, others = net.rules("state-agent-OUTPUT"), Netfilter.restore, [["-F", "state-agent-OUTPUT"]]

    def restored(self: Netfilter, family: str, text: str, namespace: Any = None, *, flush: bool = False) -> None:
        restore(self, family, text, namespace, flush=flush)
        if namespace is None and others:
            net.run("iptables", *others.pop())

    monkeypatch.setattr(Netfilter, "restore", restored)
    net.run("iptables", "-F", "state-agent-INPUT")
    residence.until(lambda: not others)
    residence.until(lambda: net.rules("state-agent-OUTPUT") == sound)
    assert residence.changes()[-2:] == [("iptables:base", "drift", "done"), ("iptables:out", "drift", "done")]


def test_only_what_changed_is_read_and_loaded(place: tuple[Residence, Net]) -> None:
    """Both families are read when an event tells of a change, and again after that; the whole one is not touched."""
    residence, net = place
    runs = residence.runs()
    with counting() as counted:
        net.run("ip6tables", "-F", "state-agent-INPUT")
        residence.until(lambda: residence.runs() > runs)
        residence.settle()
    assert len(counted.started) == 1 + 2 + 1 + 2


def test_what_is_looked_at_beside_a_repair_need_not_rest(place: tuple[Residence, Net]) -> None:
    """The kernel does not say whose rules changed: to look at the others as well is not to look in vain."""
    residence, net = place
    for _ in range(VAIN + 2):
        runs = residence.runs()
        net.run("iptables", "-F", "state-agent-INPUT")
        residence.agent._calm._contests.clear()
        residence.until(lambda: residence.runs() > runs)  # noqa: B023
    residence.settle()
    assert "iptables:out" not in residence.agent._calm._noises
    for _ in range(VAIN + 2):
        rounds = residence.rounds
        net.run("iptables", "-A", "FORWARD", "-j", "ACCEPT")
        residence.until(lambda: residence.rounds > rounds)  # noqa: B023
    assert residence.agent._calm._noises["iptables:out"].rest_until > 0


def test_rules_of_others_are_looked_at_and_left_alone(place: tuple[Residence, Net]) -> None:
    residence, net = place
    runs, rounds = residence.runs(), residence.rounds
    net.run("iptables", "-A", "FORWARD", "-j", "ACCEPT")
    residence.until(lambda: residence.rounds > rounds)
    assert residence.runs() == runs
    assert "-A FORWARD -j ACCEPT" in net.rules("FORWARD")
