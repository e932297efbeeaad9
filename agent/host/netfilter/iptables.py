"""iptables: what the kernel has, what it makes of rules, and how rules get into it.

The kernel is the judge of what rules mean: they are loaded into a throw-away network namespace and read back, so that
every spelling of a rule compares as the kernel sees it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import CommandFailed, Missing, NotPermitted, ResourceError
from agent.host.netfilter.nfnetlink import generation, tables_with_sets
from agent.host.netfilter.ruleset import (
    BUILT_IN,
    FAMILIES,
    Block,
    Ruleset,
    parse,
    set_names,
    tag,
    without_single_quotes,
)
from agent.host.netns import Namespace, throw_away
from agent.host.run import find_program

PROGRAMS: Mapping[str, str] = {"ipv4": "iptables", "ipv6": "ip6tables"}
_LOCK_WAIT = "60"
_LOCKED = 4  # RESOURCE_PROBLEM of iptables(8)


@dataclass
class Verdict:
    """What the kernel makes of rules: by label those that it took, and those that it did not, each with why."""

    rules: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


class Netfilter:
    """The rule sets of one network namespace: that of the agent, or another one by its path."""

    def __init__(self, namespace: str | None = None, programs: Mapping[str, str] = PROGRAMS) -> None:
        self.namespace = Namespace(namespace)
        self.programs = programs
        self._live: dict[str, Ruleset | ResourceError] = {}
        self._read_at: dict[str, tuple[int, Ruleset]] = {}
        self._writers: set[int] = set()
        self._verdicts: dict[tuple[object, ...], Verdict] = {}

    def forget(self) -> None:
        """Drop what was read, unless the kernel says that it is as it was; what it makes of rules stays."""
        self._live.clear()

    def take_writers(self) -> set[int]:
        """Process numbers of the programs that changed the rules since this was last asked."""
        found, self._writers = self._writers, set()
        return found

    # What there is

    def live(self, family: str) -> Ruleset:
        """The rule set of a family. Raises NotPermitted, Missing, or ResourceError where it cannot be told."""
        found = self._live.get(family)
        if found is None:
            try:
                found = self._read(family)
            except ResourceError as error:
                found = error
            self._live[family] = found
        if isinstance(found, ResourceError):
            raise found
        return found

    def table(self, family: str, table: str) -> Ruleset:
        """The same, for one who is going to change a table; iptables has to see all of it."""
        ruleset = self.live(family)
        if table in ruleset.hidden:
            raise ResourceError(
                f"iptables cannot show all of the table {table} ({family}): it holds what only nft makes",
                hint="move them into an nft table of their own; `nft list ruleset` shows them",
            )
        return ruleset

    def _read(self, family: str) -> Ruleset:
        if os.geteuid() != 0:
            raise NotPermitted("firewall rules cannot be read or changed without root", hint="run it with sudo")
        # Asked first: what changes while iptables-save runs belongs to a later generation.
        now = self.namespace.call(generation) if backend_of(self.programs[family]) == "nft" else None
        known = self._read_at.get(family)
        if known is not None and known[0] == now:
            ruleset = known[1]
        else:
            ruleset = parse(self.save(family, self.namespace))
            ruleset.hidden |= self.namespace.call(lambda: tables_with_sets(family))
            if now is not None:
                self._read_at[family] = now, ruleset
        self._refuse_two_backends(family)
        return ruleset

    def _refuse_two_backends(self, family: str) -> None:
        """Raise ResourceError where both kinds of iptables, nft and legacy, hold rules: each sees only its own."""
        backend = backend_of(self.programs[family])
        names = Path(f"/proc/thread-self/net/{'ip6' if family == 'ipv6' else 'ip'}_tables_names")
        if backend == "nft" and not self.namespace.call(lambda: names.read_text() if names.exists() else ""):
            return
        other = "legacy" if backend == "nft" else "nft"
        program = f"{PROGRAMS[family]}-{other}"
        if parse(self.namespace.run([f"{program}-save"]).stdout).in_use:
            raise ResourceError(
                f"there are rules in {program} beside those in {PROGRAMS[family]}-{backend}, which this host uses",
                hint=f"`{program}-save` shows them; keep one kind: delete these, or switch with update-alternatives",
            )

    def save(self, family: str, namespace: Namespace) -> str:
        """The output of iptables-save(8)."""
        return namespace.run([f"{self.programs[family]}-save"]).stdout

    def restore(self, family: str, text: str, namespace: Namespace | None = None, *, flush: bool = False) -> None:
        """Load rules by iptables-restore(8): all of a table or none of it. Waits for the xtables lock."""
        words = [f"{self.programs[family]}-restore", "-w", _LOCK_WAIT, *([] if flush else ["--noflush"])]
        try:
            done = (namespace or self.namespace).run(words, stdin=text, changes=namespace is None)
            if namespace is None:
                self._writers.add(done.pid)
        except CommandFailed as error:
            if error.status == _LOCKED and "lock" in error.detail:
                raise ResourceError(
                    f"another program has held the lock of iptables for {_LOCK_WAIT} s", detail=error.detail
                ) from None
            raise

    def ipsets(self) -> str:
        """All ipsets with their members, as ipset-save(8) prints them."""
        return self.namespace.run(["ipset", "save"]).stdout

    # What the kernel makes of rules

    def judge(self, family: str, blocks: Sequence[Block]) -> Verdict:
        """What the kernel makes of the rules of blocks, in a namespace with the chains and ipsets of this host."""
        blocks = [block for block in blocks if family in block.families and block.rules]
        if not blocks:
            return Verdict()
        trial = _Trial(self, family, blocks)
        key = (family, trial.stubs, *blocks)
        if key not in self._verdicts:
            self._verdicts[key] = trial.verdict()
        return self._verdicts[key]


class _Trial:
    """Rules tried in throw-away namespaces: all at once, and in halves where the kernel refuses some."""

    def __init__(self, netfilter: Netfilter, family: str, blocks: Sequence[Block]) -> None:
        self._netfilter = netfilter
        self._family = family
        self._rules = [(block, rule) for block in blocks for rule in block.rules]
        live = netfilter.live(family)
        self.stubs = tuple(
            (table, name)
            for table in BUILT_IN
            for name in sorted(
                {name for name, chain in live.chains(table).items() if chain.policy is None}
                | {block.place[1] for block in blocks if block.place[0] == table} - {*BUILT_IN[table]}
            )
        )
        names = set_names(rule for _, rule in self._rules)
        saved: list[str] = []
        with suppress(Missing):  # then there are no ipsets, and the rules that name one are refused, and no others
            saved = netfilter.ipsets().splitlines() if names else []
        self._ipsets = "".join(f"{line}\n" for line in saved if line.startswith("create "))

    def verdict(self) -> Verdict:
        """What the kernel makes of all of them."""
        verdict = Verdict({block.label: [] for block, _ in self._rules})
        good = self._rules
        try:
            saved = self._try(good)
        except CommandFailed:
            bad = self._bad(self._rules)
            for block, rule, why in bad:
                verdict.refused.setdefault(block.label, []).append((rule, why))
            good = [entry for entry in self._rules if not any(entry == (block, rule) for block, rule, _ in bad)]
            saved = self._try(good)
        loaded = parse(saved).labelled
        for block, _ in good:
            verdict.rules[block.label] = list(loaded.get(block.label, {}).get(block.place, ()))
        return verdict

    def _bad(self, rules: Sequence[tuple[Block, str]]) -> list[tuple[Block, str, str]]:
        """The rules that the kernel refuses, with what iptables says."""
        try:
            self._try(rules)
        except CommandFailed as error:
            if len(rules) == 1:
                return [(*rules[0], _plain(error.detail))]
            middle = len(rules) // 2
            return self._bad(rules[:middle]) + self._bad(rules[middle:])
        return []

    def _try(self, rules: Sequence[tuple[Block, str]]) -> str:
        with throw_away() as namespace:
            if self._ipsets:
                namespace.run(["ipset", "restore"], stdin=self._ipsets)
            self._netfilter.restore(self._family, self._text(rules), namespace)
            return self._netfilter.save(self._family, namespace)

    def _text(self, rules: Sequence[tuple[Block, str]]) -> str:
        text = ""
        for table in BUILT_IN:
            lines = [f":{name} - [0:0]" for its, name in self.stubs if its == table]
            mine = [(block, rule) for block, rule in rules if block.place[0] == table]
            lines += [f"-A {block.place[1]} {tag(block.label)} {without_single_quotes(rule)}" for block, rule in mine]
            text += "\n".join([f"*{table}", *lines, "COMMIT", ""]) if mine else ""
        return text


def backend_of(program: str) -> str:
    """Which kernel interface a program of iptables speaks: `nft` or `legacy`; update-alternatives(1) sets it."""
    return "legacy" if "legacy" in os.path.realpath(find_program(program)) else "nft"


def _plain(said: str) -> str:
    """What iptables-restore says about one rule, without where in our text it stood."""
    lines = []
    for line in said.splitlines():
        text = line.partition("tables-restore")[2].partition(": ")[2] if "tables-restore" in line else line
        text = re.sub(r"^line \d+: ", "", text.strip())
        if text and not line.startswith(("Error occurred", "Try `")):
            lines.append(text)
    return "; ".join(lines) or "the kernel refuses it"


__all__ = ["FAMILIES", "PROGRAMS", "Netfilter", "Verdict", "backend_of"]
