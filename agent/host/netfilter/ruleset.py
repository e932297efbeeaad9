"""Rule sets as iptables-save(8) prints them; text in, tables out, and nothing is looked at on the host.

Every rule that the agent loads carries a comment with the label of its resource, so that the chain itself tells what
belongs to whom.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise

FAMILIES = ("ipv4", "ipv6")
BUILT_IN: Mapping[str, tuple[str, ...]] = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
"""The chains that the kernel itself enters, by table."""

_MARK = "state-agent:"
_TAG = re.compile(rf'(?:^| )-m comment --comment (?:"{_MARK}((?:[^"\\]|\\.)*)"|{_MARK}(\S+))')
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'([^\']*)\'')
_SETS = re.compile(r"--(?:match|add|del|map)-set +\"?([^\s\"]+)")
_HIDDEN = re.compile(r"^# Table `(\w+)' (?:is|contains) incompatible", re.MULTILINE)


@dataclass
class Chain:
    """A chain: its policy, which only a built-in one has, and its rules without `-A CHAIN`."""

    policy: str | None = None
    rules: list[str] = field(default_factory=list)


@dataclass
class Ruleset:
    """All tables of one family; `hidden` are those of which iptables cannot show everything."""

    tables: dict[str, dict[str, Chain]] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    text: str = ""

    def chains(self, table: str) -> Mapping[str, Chain]:
        """The chains of a table; none where nobody has used it yet."""
        return self.tables.get(table, {})

    def rules(self, table: str, chain: str) -> Sequence[str]:
        """The rules of a chain; none where it is not there."""
        found = self.chains(table).get(chain)
        return found.rules if found else ()

    def policy(self, table: str, chain: str) -> str:
        """The policy of a built-in chain; an untouched table shows none, and accepts."""
        found = self.chains(table).get(chain)
        return (found and found.policy) or "ACCEPT"

    @cached_property
    def labelled(self) -> Mapping[str, Mapping[tuple[str, str], Sequence[str]]]:
        """The rules with a mark, without it: by label, then by table and chain."""
        found: dict[str, dict[tuple[str, str], list[str]]] = {}
        for table, chains in self.tables.items():
            for name, chain in chains.items():
                for label, rest in map(untagged, chain.rules):
                    if label is not None:
                        found.setdefault(label, {}).setdefault((table, name), []).append(rest)
        return found

    @property
    def in_use(self) -> bool:
        """Whether anything was ever set in it."""
        return any(
            chain.rules or chain.policy != "ACCEPT" for chains in self.tables.values() for chain in chains.values()
        )


@dataclass(frozen=True, slots=True)
class Block:
    """What one resource declares: rules for one place, a table and a chain in it, as the user wrote them.

    `ignore` are patterns of rules of others. A block without rules and policy is declared to be absent.
    """

    label: str
    place: tuple[str, str]
    families: tuple[str, ...]
    rules: tuple[str, ...] = ()
    policy: str | None = None
    order: int = 0
    ignore: tuple[str, ...] = ()


def parse(text: str) -> Ruleset:
    """The rule set that a text of iptables-save(8) or for iptables-restore(8) describes."""
    ruleset = Ruleset(hidden=frozenset(_HIDDEN.findall(text)), text=text)
    chains: dict[str, Chain] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            chains = ruleset.tables.setdefault(line[1:].strip(), {})
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            chains[name] = Chain(None if policy == "-" else policy)
        elif line.startswith("-A "):
            _, name, *rest = line.split(" ", 2)
            chains.setdefault(name, Chain()).rules.append(rest[0] if rest else "")
        elif line.startswith("-I "):  # as in the file that is loaded at boot
            _, name, _number, rule = line.split(" ", 3)
            chains.setdefault(name, Chain()).rules.insert(0, rule)
    return ruleset


def tag(label: str) -> str:
    """The match that marks a rule as belonging to a label."""
    return f'-m comment --comment "{_MARK}{label}"'


@lru_cache(maxsize=16384)
def untagged(rule: str) -> tuple[str | None, str]:
    """The label in a rule's mark, or None, and the rule without it."""
    found = _TAG.search(rule)
    if found is None:
        return None, rule
    label = found[2] if found[1] is None else re.sub(r"\\(.)", r"\1", found[1])
    return label, (rule[: found.start()] + rule[found.end() :]).strip()


def target(rule: str) -> str | None:
    """Where a rule jumps or goes to: a chain or a target of an extension."""
    words = _WORD.findall(rule)
    for word, following in pairwise(words):
        if word in ("-j", "-g", "--jump", "--goto"):
            return str(following)
    return None


def set_names(rules: Iterable[str]) -> set[str]:
    """The ipsets that rules use."""
    return {name for rule in rules for name in _SETS.findall(rule)}


def without_single_quotes(rule: str) -> str:
    """A rule as iptables-restore(8) takes it: that knows double quotes alone, and a backslash within them."""
    return _QUOTED.sub(lambda found: found[0] if found[1] is None else _in_double_quotes(found[1]), rule)


def _in_double_quotes(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
