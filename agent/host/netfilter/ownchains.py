"""The agent's own chains: what stands in them, and the text for iptables-restore(8) that leads to what should.

Each chain that resources declare rules for gets one chain of the agent's own, and one jump to it. Nothing here looks at
the host, or touches a chain or a rule of others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from agent.host.netfilter.ruleset import BUILT_IN, Block, Chain, Ruleset, target, untagged

Place = tuple[str, str]
"""A table and a chain in it that resources declare rules for."""

PREFIX = "state-agent-"
FIRST = "first"
_NAME_LIMIT = 28  # XT_EXTENSION_MAXNAMELEN without its NUL
_MADE = '-m comment --comment "state-agent made this chain" '


def own_chain(chain: str) -> str:
    """The name of the agent's own chain for a chain."""
    name = PREFIX + chain
    if len(name) > _NAME_LIMIT:
        digest = hashlib.blake2b(chain.encode(), digest_size=4).hexdigest()
        name = f"{name[: _NAME_LIMIT - 9]}-{digest}"
    return name


def ignored(chain: str, rule: str, patterns: Iterable[str]) -> bool:
    """Whether a rule of others is to be left where it is."""
    return any(re.search(pattern, f"-A {chain} {rule}") for pattern in patterns)


def is_jump(rule: str, own: str) -> bool:
    """Whether a rule is the jump to an own chain, and no other rule that leads there."""
    return rule.endswith(f"-j {own}") and rule.removesuffix(f"-j {own}") in ("", _MADE)


def jump_state(live: Ruleset, place: Place, patterns: Collection[str]) -> str:
    """How a chain leads to the agent's own: `first` is right; only ignored rules may stand ahead of it."""
    table, chain = place
    rules = live.rules(table, chain)
    jumps = [number for number, rule in enumerate(rules) if is_jump(rule, own_chain(chain))]
    if not jumps:
        return "missing"
    ahead = sum(not ignored(chain, rule, patterns) for rule in rules[: jumps[0]])
    if ahead:
        return f"behind {ahead} other {'rule' if ahead == 1 else 'rules'}"
    return FIRST if len(jumps) == 1 else "there twice"


def places_of(live: Ruleset, known: Iterable[Place]) -> dict[Place, Place]:
    """The place of each chain of the agent's own that there is, by table and name of the own chain."""
    names = {(table, own_chain(chain)): (table, chain) for table, chain in known}
    found: dict[Place, Place] = {}
    for table, chains in live.tables.items():
        for chain, content in chains.items():
            names.update({(table, own_chain(chain)): (table, chain)} if any(
                is_jump(rule, own_chain(chain)) for rule in content.rules
            ) else {})  # fmt: skip
        for name in chains:
            if name.startswith(PREFIX):
                found[table, name] = names.get((table, name), (table, name.removeprefix(PREFIX)))
    return found


@dataclass
class Layout:
    """What the resources of one family declare: who comes before whom, and what belongs to nobody.

    `labels` are all labels that are declared; `known` tells of another whether it once was, and was left alone.
    """

    blocks: Sequence[Block]
    labels: Collection[str]
    known: Callable[[str], bool]

    @cached_property
    def places(self) -> Mapping[Place, Sequence[Block]]:
        """The blocks of each place in their order."""
        found: dict[Place, list[Block]] = {}
        for block in sorted(self.blocks, key=lambda block: block.order):
            found.setdefault(block.place, []).append(block)
        return found

    def ranks(self, place: Place) -> dict[str, int]:
        """The labels with rules for a place, with their rank in it."""
        return {block.label: rank for rank, block in enumerate(self.places.get(place, ())) if block.rules}

    def patterns(self, place: Place) -> list[str]:
        """What is ignored in a place: the patterns of all its resources."""
        return [pattern for block in self.places.get(place, ()) for pattern in block.ignore]

    def strangers(self, place: Place, rules: Iterable[str]) -> dict[str, str | None]:
        """Rules in the agent's own chain that belong to nobody, each with the label that answers for it."""
        ranks, patterns = self.ranks(place), self.patterns(place)
        found: dict[str, str | None] = {}
        last = next(iter(ranks), None)
        for rule in rules:
            label, _ = untagged(rule)
            if label in ranks:
                last = label
            elif label is not None and (label in self.labels or self.known(label)):
                continue
            elif not ignored(own_chain(place[1]), rule, patterns):
                found[rule] = last
        return found

    def late(self, place: Place, rules: Iterable[str]) -> dict[str, str]:
        """Labels that stand behind one which should come after them, with that one."""
        ranks = self.ranks(place)
        found: dict[str, str] = {}
        foremost = ""
        for label in (untagged(rule)[0] for rule in rules):
            if label not in ranks or label is None:
                continue
            if foremost and ranks[foremost] > ranks[label]:
                found.setdefault(label, foremost)
            else:
                foremost = label
        return found

    def arranged(
        self, place: Place, rules: Sequence[str], wanted: Mapping[str, Sequence[str]], due: Collection[str]
    ) -> list[str]:
        """The content of the agent's own chain: `wanted` rules in place of those of all labels that are `due`.

        Rules of other labels stay as they are; what is nobody's goes with the label that answers for it, and else
        stays behind the label that it stands behind.
        """
        ranks = self.ranks(place)
        kept: dict[str, list[str]] = {label: [] for label in (*ranks, *wanted)}
        behind: dict[str | None, list[str]] = {}
        strangers = self.strangers(place, rules)
        last = None
        for rule in rules:
            label, _ = untagged(rule)
            if label in kept:
                kept[label].append(rule)
                last = label
            elif label not in due and strangers.get(rule, "") not in (None, *due):
                behind.setdefault(last, []).append(rule)
        result = behind.get(None, [])
        for label, present in kept.items():
            mine = wanted.get(label, ()) if label in due else present
            # The kernel prints the mark where it likes: rules that are the same stay as they are printed.
            result += present if list(map(untagged, mine)) == list(map(untagged, present)) else mine
            result += behind.get(label, [])
        return result


def transition(
    live: Ruleset,
    wanted: Mapping[Place, Sequence[str]],
    policies: Mapping[Place, str],
    patterns: Callable[[Place], Sequence[str]] = lambda _place: (),
) -> str:
    """The text for `iptables-restore --noflush` that gives the agent's own chains this content, or nothing.

    One jump leads to each, from the head of its place; a chain without rules goes, with its jump.
    """
    text = ""
    for table in sorted({table for table, _ in (*wanted, *policies)}):
        mine = {chain: rules for (its, chain), rules in wanted.items() if its == table}
        edit = _Edit(table, live.chains(table), mine)
        for chain, rules in mine.items():
            if rules:
                ignore = patterns((table, chain))
                edit.fill(chain, rules, jump_state(live, (table, chain), ignore), ignore)
            else:
                edit.clear(chain)
        edit.head += [
            f":{chain} {policy} [0:0]"
            for (its, chain), policy in policies.items()
            if its == table and live.policy(table, chain) != policy
        ]
        text += edit.text
    return text


class _Edit:
    """The lines for one table: chains first, then rules, then chains that go."""

    def __init__(self, table: str, chains: Mapping[str, Chain], wanted: Mapping[str, Sequence[str]]) -> None:
        self._table = table
        self.chains = chains
        self.wanted = wanted
        self._built_in = BUILT_IN[table]
        self.head: list[str] = []
        self.body: list[str] = []
        self.tail: list[str] = []

    @property
    def text(self) -> str:
        """The whole edit, or nothing where there is nothing to do."""
        lines = [*self.head, *self.body, *self.tail]
        return "\n".join([f"*{self._table}", *lines, "COMMIT", ""]) if lines else ""

    def _rules(self, chain: str) -> Sequence[str]:
        return self.chains[chain].rules if chain in self.chains else ()

    def fill(self, chain: str, rules: Sequence[str], jump: str, patterns: Sequence[str]) -> None:
        """Give the own chain of a chain these rules, and put the jump to its head."""
        own = own_chain(chain)
        if own not in self.chains or list(rules) != list(self._rules(own)):
            self.head.append(f":{own} - [0:0]")
            self.body += [f"-A {own} {rule}" for rule in rules]
        if jump == FIRST:
            return
        present = self._rules(chain)
        made = chain not in self._built_in and (chain not in self.chains or self._made(chain))
        if chain not in self._built_in and chain not in self.chains:
            self.head.append(f":{chain} - [0:0]")
        self.body += [f"-D {chain} {rule}" for rule in present if is_jump(rule, own)]
        others = [rule for rule in present if not is_jump(rule, own)]
        ahead = next((n for n, rule in enumerate(others) if not ignored(chain, rule, patterns)), len(others))
        self.body.append(f"-I {chain} {ahead + 1} {_MADE * made}-j {own}")

    def _made(self, chain: str) -> bool:
        return any(rule.startswith(_MADE) and is_jump(rule, own_chain(chain)) for rule in self._rules(chain))

    def clear(self, chain: str) -> None:
        """Take the own chain of a chain away, and the chain itself where the agent had made it and nobody uses it."""
        own = own_chain(chain)
        for name, content in self.chains.items():
            self.body += [f"-D {name} {rule}" for rule in content.rules if target(rule) == own and name != own]
        if own in self.chains:
            self.body.append(f"-F {own}")
            self.tail.insert(0, f"-X {own}")
        rest = [rule for rule in self._rules(chain) if not is_jump(rule, own)]
        if self._made(chain) and not rest and not self._is_used(chain):
            self.tail.append(f"-X {chain}")

    def _is_used(self, chain: str) -> bool:
        to_be = {own_chain(name): rules for name, rules in self.wanted.items()}
        rules = [rule for name, content in self.chains.items() for rule in to_be.get(name, content.rules)]
        return any(target(rule) == chain for rule in (*rules, *(rule for each in to_be.values() for rule in each)))
