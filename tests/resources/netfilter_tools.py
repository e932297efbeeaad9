"""Network namespaces for tests of netfilter; nothing here can touch the firewall of the machine itself."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from agent.errors import ResourceError
from agent.host import Host
from agent.host.netfilter import swap as ruleswap
from agent.resource import Change, differences
from agent.resources.iptables import Iptables

_numbers = itertools.count()


class Net:
    """A network namespace with its own firewall, and hosts that see no other one."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.path = f"/run/netns/{name}"
        self.folder = folder
        self.known: dict[str, Any] = {}

    def run(self, *command: str, stdin: str = "", check: bool = True) -> str:
        """Run a program in the namespace; gives what it wrote."""
        words = ["ip", "netns", "exec", self.name, *command]
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False, timeout=60)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def host(self, *declared: Iptables, **options: Any) -> Host:
        """A host whose firewall is that of the namespace, and whose site declares these."""
        assert os.stat(self.path).st_ino != os.stat("/proc/self/ns/net").st_ino
        return Host(
            namespace=self.path,
            run_dir=str(self.folder / "run"),
            state_dir=str(self.folder / "state"),
            declared=declared,
            last_set=self.known.get,
            **options,
        )

    def differing(self, *declared: Iptables) -> dict[str, Change]:
        """What differs, by label."""
        host = self.host(*declared)
        Iptables.prefetch(host, declared)
        found = {}
        for resource in declared:
            change = differences(resource.read(host), resource.desired(host))
            if change is not None:
                found[resource.name] = change
        return found

    def apply(
        self, *declared: Iptables, only: Sequence[str] | None = None, host: Host | None = None
    ) -> dict[str, Change]:
        """Apply as the engine does: read, change what differs in one go, read again. Raises the first error."""
        host = host or self.host(*declared)
        mine = [resource for resource in declared if only is None or resource.name in only]
        Iptables.prefetch(host, mine)
        due = [(each, change) for each in mine if (change := differences(each.read(host), each.desired(host)))]
        errors = Iptables.apply_group(host, due) if due else {}
        for error in errors.values():
            raise error
        host.forget()
        for each in mine:
            left = differences(each.read(host), each.desired(host))
            assert left is None, f"{each.name} did not converge: {left}"
            self.known[each.id] = each.desired(host)
        return {each.name: change for each, change in due}

    def rules(self, chain: str = "state-agent-INPUT", *, table: str = "filter", v6: bool = False) -> list[str]:
        """The rules of a chain as iptables lists them."""
        program = "ip6tables" if v6 else "iptables"
        return self.run(program, "-w", "-t", table, "-S", chain).splitlines()[1:]

    def labels(self, chain: str = "state-agent-INPUT", *, v6: bool = False) -> list[str]:
        """The labels of the rules of a chain, in their order."""
        return [
            rule.partition("state-agent:")[2].split('"')[0] if "state-agent:" in rule else "-"
            for rule in self.rules(chain, v6=v6)
        ]

    def saved(self, *, v6: bool = False) -> str:
        """All rules, without what changes by itself."""
        lines = self.run("ip6tables-save" if v6 else "iptables-save").splitlines()
        return "\n".join(line for line in lines if not line.startswith("#"))


@contextmanager
def namespace(folder: Path) -> Iterator[Net]:
    """A namespace that goes afterwards."""
    net = Net(f"sa-test-{os.getpid()}-{next(_numbers)}", folder)
    subprocess.run(["ip", "netns", "add", net.name], check=True, timeout=60)
    try:
        net.run("ip", "link", "set", "lo", "up")
        with mock.patch.object(ruleswap, "guard"):  # whoever runs the tests may do so over ssh
            yield net
    finally:
        subprocess.run(["ip", "netns", "del", net.name], check=False, timeout=60)


def rules(name: str, *specs: str, **fields: Any) -> Iptables:
    """Rules for INPUT, where nothing else is said."""
    return Iptables(**{"name": name, "chain": "INPUT", "rules": list(specs), **fields})


def refusal(call: Callable[[], Any]) -> str:
    """What a call is refused with."""
    with suppress(StopIteration):
        try:
            call()
        except ResourceError as error:
            return str(error)
    raise AssertionError("it was not refused")
