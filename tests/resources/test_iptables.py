"""Rules through the real iptables, in network namespaces of their own: order, drift, others, refusals, removal."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from netfilter_tools import Net, namespace, refusal, rules

from agent.errors import NotPermitted, ResourceError
from agent.host import netns
from agent.host.netfilter import iptables as netfilter
from agent.host.netfilter.ownchains import own_chain
from agent.host.netfilter.ruleset import parse, untagged
from agent.resource import differences
from agent.resources.iptables import Iptables, chain_name, label_text, rule_text

SSH = rules("ssh", "-p tcp --dport ssh -j ACCEPT")
WEB = rules("web", "-p tcp --dport http -j ACCEPT", "-p tcp --dport https -j ACCEPT")
MAIL = rules("mail", "-p tcp --dport smtp -j ACCEPT", order=5)
ALL = (SSH, WEB, MAIL)


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    with namespace(tmp_path) as net:
        yield net


@pytest.fixture
def loaded(net: Net) -> Net:
    """A namespace with three resources for INPUT."""
    net.apply(*ALL)
    return net


def fail2ban(net: Net) -> None:
    net.run("iptables", "-N", "f2b-sshd")
    net.run("iptables", "-A", "f2b-sshd", "-s", "203.0.113.9", "-j", "REJECT")
    net.run("iptables", "-A", "f2b-sshd", "-j", "RETURN")
    net.run("iptables", "-I", "INPUT", "-p", "tcp", "-m", "multiport", "--dports", "22", "-j", "f2b-sshd")


def docker(net: Net) -> None:
    net.run(
        "iptables-restore",
        "--noflush",
        stdin="""*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
COMMIT
*filter
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -j DOCKER
-A DOCKER-USER -j RETURN
-P FORWARD DROP
COMMIT
""",
    )


def foreign(net: Net) -> list[str]:
    return [line for line in net.saved().splitlines() if "state-agent" not in line]


# Order, swap, and the chain itself


def test_rules_stand_in_order_in_a_chain_of_the_agents_own(net: Net) -> None:
    last = rules("last", "-j DROP", order=100)
    first = rules("first", "-i lo -j ACCEPT", order=-100)
    net.apply(last, WEB, SSH, first)
    assert net.labels() == net.labels(v6=True) == ["first", "web", "web", "ssh", "last"]
    assert net.rules("INPUT") == net.rules("INPUT", v6=True) == ["-A INPUT -j state-agent-INPUT"]
    net.apply(first, SSH, WEB, last)
    assert net.labels() == ["first", "ssh", "web", "web", "last"]


def test_a_change_of_one_names_that_one(loaded: Net) -> None:
    more = rules("web", *WEB.rules, "-p tcp --dport 8080 -j ACCEPT")
    assert list(loaded.differing(SSH, more, MAIL)) == ["web"]
    (change,) = loaded.apply(SSH, more, MAIL).values()
    assert {each.attribute for each in change.attributes} == {"ipv4", "ipv6", "boot"}
    host = loaded.host(SSH, more, MAIL)
    assert more.preview(host, change) == ["+ -A state-agent-INPUT -p tcp -m tcp --dport 8080 -j ACCEPT"]
    assert loaded.labels() == ["ssh", "web", "web", "web", "mail"]


def test_what_the_plan_says(net: Net) -> None:
    first = rules("web", "-p tcp --dport 80 -j ACCEPT", "-4 -s 192.0.2.1 -j DROP", policy=None)
    change = net.differing(first)["web"]
    host = net.host(first)
    assert first.summary(host, change) == "filter/INPUT: 2 rules"
    assert list(first.preview(host, change)) == [
        "+ -A state-agent-INPUT -p tcp -m tcp --dport 80 -j ACCEPT",
        "+ -A state-agent-INPUT -s 192.0.2.1/32 -j DROP  (ipv4)",
    ]
    net.apply(first)
    gone = rules("web", ensure="absent")
    assert gone.summary(host, net.differing(gone)["web"]) == "filter/INPUT: 2 rules"


def test_a_family_alone(net: Net) -> None:
    net.apply(
        rules("a", "-s 192.0.2.1 -j ACCEPT", family="ipv4"), rules("b", "-s 2001:db8::1 -j ACCEPT", family="ipv6")
    )
    assert (net.labels(), net.labels(v6=True)) == (["a"], ["b"])
    net.apply(rules("a", "-j ACCEPT", family="ipv6"), rules("b", "-6 -j ACCEPT"))
    assert net.labels(v6=True) == ["a", "b"]
    assert "state-agent" not in net.saved()


def test_other_tables_and_chains_of_ones_own(net: Net) -> None:
    declared = (
        rules("nat", "-p tcp --dport 80 -j REDIRECT --to-ports 8080", table="nat", chain="PREROUTING"),
        rules("use", "-p tcp --dport 25 -j smtp"),
        rules("smtp", "-m limit --limit 5/s -j ACCEPT", "-j DROP", chain="smtp"),
    )
    before = net.saved()
    net.apply(*declared)
    assert len(net.rules("state-agent-smtp")) == 2
    assert net.rules("smtp")[0].endswith("-j state-agent-smtp")
    assert len(net.rules("state-agent-PREROUTING", table="nat")) == 1
    net.apply(*(rules(each.name, ensure="absent") for each in declared))
    assert before == ""
    assert foreign(net) == net.saved().splitlines()
    assert "smtp" not in net.saved()


def test_long_names_of_chains(net: Net) -> None:
    assert own_chain("INPUT") == "state-agent-INPUT"
    names = {own_chain(f"DOCKER-ISOLATION-STAGE-{number}") for number in (1, 2)}
    assert len(names) == 2
    assert {len(name) for name in names} == {28}
    net.apply(rules("a", "-j RETURN", chain="DOCKER-ISOLATION-STAGE-1"))
    net.apply(rules("a", ensure="absent"))
    assert "state-agent" not in net.saved()


def test_swapped_in_one_transaction_per_family(loaded: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    restore = netfilter.Netfilter.restore

    def spy(self: Any, family: str, text: str, namespace: Any = None, **options: Any) -> None:
        if namespace is None:
            texts.append((family, text))
        restore(self, family, text, namespace, **options)

    monkeypatch.setattr(netfilter.Netfilter, "restore", spy)
    loaded.run("iptables", "-F", "INPUT")
    loaded.apply(SSH, rules("web", "-j DROP"), rules("mail", ensure="absent"))
    assert [family for family, _ in texts] == ["ipv4", "ipv6"]
    assert all(text.count("COMMIT") == 1 for _, text in texts)
    assert "-I INPUT" not in texts[1][1], "a jump in its place is not touched"


def test_labels_of_any_kind(net: Net) -> None:
    names = ["with space", "it's", "grüße", "a:b", "x" * 200, "1", "$HOME `id`", "-"]
    net.apply(*(rules(name, f"-p tcp --dport {number} -j ACCEPT") for number, name in enumerate(names, 1)))
    assert [untagged(rule)[0] for rule in parse(net.saved()).rules("filter", "state-agent-INPUT")] == names


# Drift

DRIFTS: dict[str, Callable[[Net], Any]] = {
    "flushed chain": lambda net: net.run("iptables", "-F", "state-agent-INPUT"),
    "deleted jump": lambda net: net.run("iptables", "-D", "INPUT", "-j", "state-agent-INPUT"),
    "flushed INPUT": lambda net: net.run("iptables", "-F", "INPUT"),
    "jump twice": lambda net: net.run("iptables", "-A", "INPUT", "-j", "state-agent-INPUT"),
    "jump not first": lambda net: net.run("iptables", "-I", "INPUT", "-j", "ACCEPT"),
    "a rule too many": lambda net: net.run("iptables", "-A", "state-agent-INPUT", "-s", "10.1.1.1", "-j", "ACCEPT"),
    "a rule first": lambda net: net.run("iptables", "-I", "state-agent-INPUT", "-j", "ACCEPT"),
    "a rule of nobody with a mark": lambda net: net.run(
        "iptables", "-A", "state-agent-INPUT", "-m", "comment", "--comment", "state-agent:evil", "-j", "ACCEPT"
    ),
    "a rule deleted": lambda net: net.run("iptables", "-D", "state-agent-INPUT", "2"),
    "a rule twice": lambda net: net.run(
        "iptables", "-A", *net.rules()[0].replace('"', "").removeprefix("-A ").split(" ")
    ),
    "a rule replaced": lambda net: net.run("iptables", "-R", "state-agent-INPUT", "1", "-j", "ACCEPT"),
    "rules swapped": lambda net: (
        net.run("iptables", "-D", "state-agent-INPUT", "1"),
        net.run(
            "iptables",
            "-A",
            "state-agent-INPUT",
            *["-p", "tcp", "-m", "comment", "--comment", "state-agent:ssh", "--dport", "22", "-j", "ACCEPT"],
        ),
    ),
    "whole table flushed": lambda net: (net.run("iptables", "-F"), net.run("iptables", "-X")),
    "everything gone": lambda net: net.run("nft", "flush", "ruleset"),
    "ipv6 alone": lambda net: net.run("ip6tables", "-F"),
    "boot file gone": lambda net: (net.folder / "state/firewall.ipv4").unlink(),
    "boot file changed": lambda net: (net.folder / "state/firewall.ipv6").write_text("*filter\nCOMMIT\n"),
}


def test_every_drift_is_found_and_repaired(loaded: Net) -> None:
    before = loaded.saved(), loaded.saved(v6=True)
    for what, drift in DRIFTS.items():
        drift(loaded)
        differing = loaded.differing(*ALL)
        assert differing, what
        loaded.apply(*ALL)
        after = loaded.saved(), loaded.saved(v6=True)
        if what == "jump not first":
            assert loaded.rules("INPUT") == ["-A INPUT -j state-agent-INPUT", "-A INPUT -j ACCEPT"]
            loaded.run("iptables", "-D", "INPUT", "2")
        else:
            assert after == before, what


def test_drift_is_blamed_on_the_right_one(loaded: Net) -> None:
    loaded.run("iptables", "-I", "state-agent-INPUT", "4", "-s", "10.1.1.1", "-j", "DROP")
    assert [each.attribute for each in loaded.differing(*ALL)["web"].attributes] == ["foreign"]
    loaded.apply(*ALL)
    loaded.run("iptables", "-D", "state-agent-INPUT", "1")
    mark = ("-m", "comment", "--comment", "state-agent:ssh")
    loaded.run("iptables", "-A", "state-agent-INPUT", "-p", "tcp", *mark, "--dport", "22", "-j", "ACCEPT")
    (change,) = loaded.differing(*ALL).values()
    assert [(each.attribute, each.actual) for each in change.attributes] == [("order", "behind mail")]


def test_moved_to_another_chain(loaded: Net) -> None:
    loaded.apply(SSH, rules("web", "-j ACCEPT", chain="FORWARD"), MAIL)
    assert loaded.labels() == ["ssh", "mail"]
    assert loaded.labels("state-agent-FORWARD") == ["web"]
    loaded.apply(SSH, rules("web", "-j ACCEPT", chain="PREROUTING", table="mangle"), MAIL)
    assert "state-agent-FORWARD" not in loaded.saved()


# Targets and declarations that were removed


def test_a_target_leaves_the_others_where_they_are(loaded: Net) -> None:
    loaded.run(
        "iptables", "-R", "state-agent-INPUT", "1", "-m", "comment", "--comment", "state-agent:ssh", "-j", "DROP"
    )
    early = rules("early", "-i lo -j ACCEPT", order=-1)
    between = rules("between", "-j RETURN", order=3)
    declared = (SSH, WEB, MAIL, early, between)
    loaded.apply(*declared, only=["between"])
    assert loaded.labels() == ["ssh", "web", "web", "between", "mail"]
    assert loaded.rules()[0].endswith("DROP"), "what differs, but is no target, is left alone"
    assert set(loaded.differing(*declared)) == {"ssh", "early"}
    loaded.apply(*declared, only=["early"])
    assert loaded.labels() == ["early", "ssh", "web", "web", "between", "mail"]
    loaded.run("iptables", "-A", "state-agent-INPUT", "-j", "DROP")
    loaded.apply(*declared, only=["ssh"])
    assert loaded.labels()[-1] == "-"
    loaded.apply(*declared)
    assert loaded.labels()[-1] == "mail"


def test_a_removed_declaration_is_left_alone(loaded: Net) -> None:
    assert not loaded.differing(SSH, MAIL)
    loaded.apply(rules("ssh", "-p tcp --dport 2222 -j ACCEPT"), MAIL)
    assert loaded.labels() == ["ssh", "web", "web", "mail"]
    loaded.apply(MAIL, rules("ssh", ensure="absent"))
    assert loaded.labels() == ["web", "web", "mail"]


def test_undone(net: Net) -> None:
    fail2ban(net)
    docker(net)
    net.run("iptables", "-P", "INPUT", "DROP")
    before = net.saved()
    policy = rules("policy", "-i lo -j ACCEPT", policy="ACCEPT", family="ipv4")
    user = rules("user", "-s 192.0.2.9 -j DROP", chain="DOCKER-USER", family="ipv4")
    found = {each.name: each.read(net.host(policy, user)) for each in (policy, user)}
    net.apply(policy, user)
    assert "-P INPUT ACCEPT" in net.run("iptables", "-S")
    policy.undo(net.host(user), found["policy"])
    assert user.read(net.host(user)) is not None
    user.undo(net.host(), found["user"])
    assert found["user"] is None
    assert net.saved() == before
    assert user.read(net.host()) is None
    assert list((net.folder / "state").iterdir()) == []


def test_rolled_back_to_earlier_rules(loaded: Net) -> None:
    before = WEB.read(loaded.host(*ALL))
    after = rules("web", "-j DROP")
    loaded.apply(SSH, after, MAIL)
    after.undo(loaded.host(SSH, after, MAIL), before)
    assert not loaded.differing(*ALL)
    assert loaded.labels() == ["ssh", "web", "web", "mail"]


# Others


def test_rules_and_chains_of_others_stay(net: Net) -> None:
    fail2ban(net)
    docker(net)
    before = foreign(net)
    everything = (
        *ALL,
        rules("fwd", "-p tcp -j RETURN", chain="FORWARD"),
        rules("user", "-j RETURN", chain="DOCKER-USER"),
    )
    net.apply(*everything)
    assert foreign(net) == before
    net.run("iptables", "-A", "f2b-sshd", "-s", "203.0.113.10", "-j", "REJECT")
    assert not net.differing(*everything)
    net.apply(SSH, rules("web", "-j DROP"), *everything[2:])
    assert any("203.0.113.10" in rule for rule in net.rules("f2b-sshd"))
    net.apply(*(rules(each.name, ensure="absent") for each in everything))
    assert [line for line in foreign(net) if "203.0.113.10" not in line] == before
    assert "state-agent" not in net.saved()


def test_fail2ban_stays_ahead_of_the_jump(loaded: Net) -> None:
    fail2ban(loaded)
    assert not loaded.differing(*ALL)
    loaded.run("iptables", "-I", "INPUT", "2", "-j", "ACCEPT")
    loaded.apply(*ALL)
    assert [rule.split("-j ")[1] for rule in loaded.rules("INPUT")] == ["f2b-sshd", "state-agent-INPUT", "ACCEPT"]
    strict = rules("ssh", *SSH.rules, ignore=[])
    loaded.apply(strict)
    assert loaded.rules("INPUT")[0].endswith("state-agent-INPUT")


def test_ignored_rules_stay_in_the_own_chain(net: Net) -> None:
    ssh = rules("ssh", *SSH.rules, ignore=["--comment knock"])
    net.apply(ssh, WEB)
    knock = ("-s", "192.0.2.5", "-m", "comment", "--comment", "knock", "-j", "ACCEPT")
    net.run("iptables", "-A", "state-agent-INPUT", *knock)
    net.run("iptables", "-I", "state-agent-INPUT", *knock)
    assert not net.differing(ssh, WEB)
    net.apply(ssh, rules("web", "-j DROP"))
    assert net.labels() == ["-", "ssh", "web", "-"]


# Policies


def test_policy(net: Net) -> None:
    drop = rules("drop", policy="DROP")
    net.apply(drop)
    assert net.run("iptables", "-S", "INPUT").split() == ["-P", "INPUT", "DROP"]
    net.run("ip6tables", "-P", "INPUT", "ACCEPT")
    (each,) = net.differing(drop)["drop"].attributes
    assert (each.attribute, each.actual, each.desired) == ("policy", "ipv4 DROP, ipv6 ACCEPT", "DROP")
    net.apply(drop)
    other = rules("other", policy="ACCEPT")
    assert "declared twice" in refusal(lambda: net.apply(drop, other))
    undeclared = rules("drop", "-i lo -j ACCEPT")
    net.apply(undeclared)
    assert "-P INPUT DROP" in net.run("iptables", "-S", "INPUT"), "left as it is where not given"


# Refusals: before anything is touched


@pytest.mark.parametrize(
    ("spec", "why", "hint"),
    [
        ("-s 192.0.2.1 -j ACCEPT", "ipv6: host/network `192.0.2.1' not found", 'family = "ipv4"'),
        ("-p tcp --dport 99999 -j ACCEPT", "invalid port", ""),
        ("-j nowhere", "nowhere", ""),
        ("-m nosuchmatch -j ACCEPT", "nosuchmatch", ""),
        ("-j MASQUERADE", "", ""),
        ("-o eth0 -j ACCEPT", "with INPUT", ""),
        ("-s no.such.host.invalid -j ACCEPT", "not found", ""),
        ("-m set --match-set nosuchset src -j DROP", "nosuchset", ""),
        ('-j LOG --log-prefix "open', "", ""),
        ("--frobnicate", "frobnicate", ""),
    ],
)
def test_rules_that_the_kernel_refuses(loaded: Net, spec: str, why: str, hint: str) -> None:
    before = loaded.saved(), loaded.saved(v6=True)
    bad = rules("bad", "-i lo -j ACCEPT", spec, "-j DROP")
    text = refusal(lambda: loaded.apply(*ALL, bad))
    assert spec in text
    assert why in text
    assert hint in text
    assert "-i lo" not in text
    assert (loaded.saved(), loaded.saved(v6=True)) == before


def test_the_table_of_a_refused_rule_is_not_touched(net: Net) -> None:
    bad = rules("bad", "-p tcp --dport ssh -j ACEPT")
    good = rules("good", policy="DROP")
    other = rules("nat", "-j ACCEPT", table="nat", chain="PREROUTING")
    host = net.host(bad, good, other)
    Iptables.prefetch(host, (bad, good, other))
    due = [(each, differences(each.read(host), each.desired(host))) for each in (good, other)]
    errors = Iptables.apply_group(host, due)
    assert "iptables:bad" in str(errors.pop("iptables:good"))
    assert not errors
    assert "DROP" not in net.saved()
    assert len(net.rules("state-agent-PREROUTING", table="nat")) == 1


def test_a_table_that_iptables_cannot_show(net: Net) -> None:
    net.run(
        "nft",
        "-f",
        "-",
        stdin="table ip filter {\n set s { type ipv4_addr; }\n chain input "
        "{ type filter hook input priority 1; ip saddr @s drop; }\n}\n",
    )
    before = net.run("nft", "list", "ruleset")
    text = refusal(lambda: net.apply(*ALL))
    assert "cannot show all of the table filter" in text
    assert net.run("nft", "list", "ruleset") == before
    net.apply(rules("nat", "-j ACCEPT", table="nat", chain="PREROUTING"))


def test_a_native_set_inside_a_chain_of_iptables(net: Net) -> None:
    net.run("iptables", "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
    net.run("nft", "add set ip filter bad { type ipv4_addr; }")
    net.run("nft", "add rule ip filter INPUT ip saddr @bad drop")
    assert "cannot show" in refusal(lambda: net.apply(*ALL))


def test_tables_of_nft_beside(net: Net) -> None:
    net.run("nft", "add table inet filter { chain input { type filter hook input priority 0; }; }")
    net.apply(*ALL)
    assert not net.differing(*ALL)


@pytest.mark.parametrize("mine", ["iptables", "iptables-legacy"])
def test_both_kinds_of_iptables_in_use(net: Net, mine: str) -> None:
    other = "iptables-legacy" if mine == "iptables" else "iptables-nft"
    net.run(other, "-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP")
    host = net.host(SSH)
    host.firewall.netfilter.programs = {"ipv4": mine, "ipv6": mine.replace("ip", "ip6", 1)}
    text = refusal(lambda: SSH.read(host))
    assert f"there are rules in {other} beside" in text
    net.run(other, "-F")
    host.forget()
    assert SSH.read(host) is None


def test_the_legacy_kind(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        netfilter.Netfilter.__init__, "__defaults__", (None, {"ipv4": "iptables-legacy", "ipv6": "ip6tables-legacy"})
    )
    drop = rules("last", "-m state --state NEW -j REJECT", policy="DROP", order=9)
    net.apply(*ALL, drop)
    saved = net.run("iptables-legacy-save")
    assert "-A INPUT -j state-agent-INPUT" in saved
    assert ":INPUT DROP" in saved
    net.run("iptables-legacy", "-w", "-D", "state-agent-INPUT", "1")
    assert list(net.differing(*ALL, drop)) == ["ssh"]
    with open("/run/xtables.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        timer = threading.Timer(0.5, lambda: fcntl.flock(lock, fcntl.LOCK_UN))
        timer.start()
        started = time.monotonic()
        net.apply(*ALL, drop)
        assert time.monotonic() - started > 0.4, "a busy lock is waited for"
        monkeypatch.setattr(netfilter, "_LOCK_WAIT", "1")
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "has held the lock" in refusal(lambda: net.apply(rules("ssh", "-j DROP"), WEB))


def test_without_the_program_for_sets(net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "programs"
    folder.mkdir()
    for place in (*Path("/usr/sbin").iterdir(), *Path("/usr/bin").iterdir()):
        if place.name != "ipset" and not (folder / place.name).is_symlink():
            (folder / place.name).symlink_to(place)
    monkeypatch.setattr("agent.host.run.PATH", str(folder))
    friends = rules("friends", "-m set --match-set friends src -j ACCEPT", family="ipv4", table="raw", chain="OUTPUT")
    host = net.host(SSH, friends)
    Iptables.prefetch(host, [SSH, friends])
    assert SSH.desired(host)
    assert "Set friends doesn't exist" in refusal(lambda: friends.desired(host))
    net.apply(SSH, friends, only=["ssh"])


def test_without_root(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NotPermitted):
        SSH.read(net.host(SSH))


def test_no_ipv6_in_the_kernel(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netfilter.Netfilter.__init__, "__defaults__", (None, {"ipv4": "iptables", "ipv6": "false"}))
    real = netfilter.Netfilter.save

    def save(self: Any, family: str, namespace: Any) -> str:
        if family == "ipv6":
            raise ResourceError("ip6tables-save: Address family not supported by protocol")
        return real(self, family, namespace)

    monkeypatch.setattr(netfilter.Netfilter, "save", save)
    only = rules("only", "-s 192.0.2.1 -j ACCEPT", family="ipv4")
    net.apply(only)
    assert not net.differing(only)
    assert "not supported" in refusal(lambda: net.apply(SSH))


# Declarations


@pytest.mark.parametrize(
    "text",
    ["", " ", "-A INPUT -j ACCEPT", "iptables -A INPUT -j ACCEPT", "-t nat -j ACCEPT", "-j ACCEPT\n-F", "-F",
     "-P INPUT DROP", "-p tcp -I INPUT", '-m comment --comment "state-agent:x" -j ACCEPT', "--append INPUT -j DROP"],
)  # fmt: skip
def test_rules_that_are_no_rules(text: str) -> None:
    with pytest.raises(ValueError):
        rule_text(text)


def test_rules_that_look_like_others() -> None:
    for text in ('-j LOG --log-prefix "-A INPUT "', "-m string --string -A-x --algo bm", "-p tcp --dport 22 -j ACCEPT"):
        assert rule_text(f" {text} ") == text


@pytest.mark.parametrize("text", ["", "-x", "!x", "a b", "x" * 29, 'a"', "state-agent-INPUT", "a:b"])
def test_names_that_are_no_chains(text: str) -> None:
    with pytest.raises(ValueError):
        chain_name(text)


@pytest.mark.parametrize("text", ['a"b', "a\\b", "x" * 201, "a\nb", " a", "ü" * 101])
def test_labels_that_cannot_be(text: str) -> None:
    with pytest.raises(ValueError):
        label_text(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"rules": []},
        {"chain": None},
        {"chain": "mine", "policy": "DROP"},
        {"table": "raw", "policy": "DROP"},
        {"ensure": "absent", "policy": "DROP"},
    ],
)
def test_fields_that_do_not_go_together(fields: dict[str, Any]) -> None:
    given = {"name": "x", "chain": "INPUT", "rules": ["-j ACCEPT"], **fields}
    assert list(Iptables(**given).problems())


# Cost


def test_the_check_of_many_rules_takes_six_programs(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [rules(f"r{number}", f"-p tcp --dport {number} -j ACCEPT") for number in range(1, 501)]
    net.apply(*many)
    started = []
    observe = netns.observe

    def count(*words: Any, **options: Any) -> Any:
        started.append(words)
        return observe(*words, **options)

    monkeypatch.setattr(netns, "observe", count)
    assert not net.differing(*many)
    assert len(started) == 6
