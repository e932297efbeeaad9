"""The firewall of a host: what the resources of a site declare together, what stands of it, and how it comes about.

One chain of the agent's own serves all resources of a place. Bringing about what some of them declare rewrites that
chain as a whole, with the rules of the others as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.errors import ResourceError
from agent.host.netfilter.bootfile import BootFile, bootable
from agent.host.netfilter.iptables import Netfilter, Verdict
from agent.host.netfilter.ownchains import (
    FIRST,
    PREFIX,
    Layout,
    Place,
    jump_state,
    own_chain,
)
from agent.host.netfilter.ruleset import FAMILIES, Block, Ruleset

if TYPE_CHECKING:
    from agent.host import Host

IN_ORDER = "in order"
SAVED = "saved"


@dataclass(frozen=True)
class Wanted:
    """What one label is to come to: rules by family, without its mark (none: they go), and policies by family."""

    label: str
    place: Place
    rules: Mapping[str, Sequence[str]] = field(default_factory=dict)
    policies: Mapping[str, str] = field(default_factory=dict)


class Firewall:
    """All that a site declares about netfilter, on one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.netfilter = Netfilter(host.namespace)
        self._blocks: dict[str, Block] = {}
        self._layouts: dict[str, Layout] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._surveys: dict[tuple[str, Place], Survey] = {}
        self._boot: dict[str, Ruleset] = {}
        self.selected: frozenset[str] = frozenset()
        """Labels that this run looks after."""

    def forget(self) -> None:
        """Drop what was read."""
        self.netfilter.forget()
        for part in (self._blocks, self._layouts, self._verdicts, self._surveys, self._boot):
            part.clear()

    @property
    def blocks(self) -> Mapping[str, Block]:
        """What is declared, by label, in the order of declaration."""
        if not self._blocks:
            found = [resource.block() for resource in self._host.declared if resource.kind == "iptables"]
            self._blocks.update({block.label: block for block in found})
        return self._blocks

    def layout(self, family: str) -> Layout:
        """What is declared for a family."""
        if family not in self._layouts:
            mine = [block for block in self.blocks.values() if family in block.families]
            self._layouts[family] = Layout(mine, set(self.blocks), self._was_declared)
        return self._layouts[family]

    def _was_declared(self, label: str) -> bool:
        """Whether it was declared once, and left alone when that was removed."""
        return bool(self._host.last_set(f"iptables:{label}"))

    # What is desired

    def rules_of(self, block: Block) -> dict[str, list[str]]:
        """Its rules by family as the kernel sees them. Raises ResourceError where it refuses any."""
        verdicts = {family: self._verdict(family, block) for family in block.families}
        refused = {family: verdict.refused.get(block.label, []) for family, verdict in verdicts.items()}
        if any(refused.values()):
            raise _refusal(refused)
        if block.policy is not None:
            self._refuse_two_policies(block)
        return {family: verdict.rules.get(block.label, []) for family, verdict in verdicts.items()}

    def _verdict(self, family: str, block: Block) -> Verdict:
        if self.blocks.get(block.label) != block:
            others = [other for other in self.blocks.values() if other.label != block.label]
            return self.netfilter.judge(family, [*others, block])
        if family not in self._verdicts:
            self._verdicts[family] = self.netfilter.judge(family, list(self.blocks.values()))
        return self._verdicts[family]

    def _refuse_two_policies(self, block: Block) -> None:
        for other in self.blocks.values():
            same = other.place == block.place and not set(other.families).isdisjoint(block.families)
            if same and other.policy not in (None, block.policy):
                raise ResourceError(
                    f"the policy of {block.place[0]}/{block.place[1]} is declared twice: {block.policy} here, "
                    f"{other.policy} by iptables:{other.label}"
                )

    def refused_beside(self, block: Block) -> str | None:
        """Another label of this run whose rules for the same table the kernel refuses."""
        for family in block.families:
            for label in self._verdict(family, block).refused:
                if label in self.selected and label != block.label and self.blocks[label].place[0] == block.place[0]:
                    return label
        return None

    def ask_kernel(self, block: Block) -> None:
        """What it makes of a block, and what it has, once for all. Raises ResourceError where it refuses."""
        for family in block.families:
            self.live(family, block)
            self._verdict(family, block)

    # What stands

    def live(self, family: str, block: Block) -> Ruleset:
        """What a block has to do with; a family that is not its own may be missing from the kernel."""
        if family in block.families:
            return self.netfilter.table(family, block.place[0])
        with suppress(ResourceError):
            return self.netfilter.live(family)
        return Ruleset()

    def state(self, block: Block) -> dict[str, Any] | None:
        """What stands of a block; None where nothing does, and it says nothing about a policy."""
        table, chain = block.place
        own = (table, own_chain(chain))
        state: dict[str, Any] = {}
        elsewhere: list[str] = []
        for family in FAMILIES:
            found = self.live(family, block).labelled.get(block.label, {})
            state[family] = list(found.get(own, ()))
            elsewhere += [
                f"{family} {its}: -A {name} {rule}"
                for (its, name), rules in found.items()
                for rule in rules
                if (its, name) != own and name.startswith(PREFIX)
            ]
        state["elsewhere"] = elsewhere
        saved = self._is_saved(block)
        state["boot"] = SAVED if saved else "not saved"
        stands = any(state[family] for family in FAMILIES) or elsewhere or block.policy is not None
        if not stands and (saved or self._is_declared(block)):
            return None
        return state | self._standing(block, state)

    def _is_declared(self, block: Block) -> bool:
        return self.blocks.get(block.label) == block and bool(block.rules or block.policy)

    def _standing(self, block: Block, state: Mapping[str, Any]) -> dict[str, Any]:
        """How its rules stand among others, and the policy, over all its families."""
        found: dict[str, Any] = {}
        if block.rules:
            rules = self.rules_of(block) if self._is_declared(block) else state
            surveys = {family: self._survey(family, block) for family in block.families if rules[family]}
            found["jump"] = next((survey.jump for survey in surveys.values() if survey.jump != FIRST), FIRST)
            late = next((survey.late[block.label] for survey in surveys.values() if block.label in survey.late), None)
            found["order"] = IN_ORDER if late is None else f"behind {late}"
            found["foreign"] = [
                f"{rule}  ({family})"
                for family, survey in surveys.items()
                for rule, owner in survey.strangers.items()
                if owner == block.label
            ]
        if block.policy is not None:
            policies = {family: self.live(family, block).policy(*block.place) for family in block.families}
            found["policy"] = policy_text(policies)
        return found

    def _survey(self, family: str, block: Block) -> Survey:
        key = (family, block.place)
        if key not in self._surveys:
            table, chain = block.place
            layout, live = self.layout(family), self.live(family, block)
            rules = live.rules(table, own_chain(chain))
            self._surveys[key] = Survey(
                jump_state(live, block.place, layout.patterns(block.place)),
                layout.late(block.place, rules),
                layout.strangers(block.place, rules),
            )
        return self._surveys[key]

    def _is_saved(self, block: Block) -> bool:
        """Whether the next boot loads what is declared, or nothing where it is to be absent."""
        wanted = self.rules_of(block) if self._is_declared(block) else {}
        return all(self._is_saved_for(family, block, wanted.get(family, [])) for family in FAMILIES)

    def _is_saved_for(self, family: str, block: Block, rules: Sequence[str]) -> bool:
        if family not in self._boot:
            self._boot[family] = self.boot.read(family)
        boot, (table, chain) = self._boot[family], block.place
        rules = bootable(self.live(family, block), table, rules)
        if boot.labelled.get(block.label, {}) != ({(table, own_chain(chain)): rules} if rules else {}):
            return False
        if block.policy is not None and family in block.families and boot.policy(table, chain) != block.policy:
            return False
        return not rules or jump_state(boot, block.place, ()) == FIRST

    def swap(self, due: Sequence[Wanted]) -> None:
        """Bring these about; raises ResourceError before anything is touched where it can be foreseen."""
        from agent.host.netfilter.swap import Swap

        Swap(self._host, self).carry_out(due)

    @property
    def boot(self) -> BootFile:
        """What the next boot loads."""
        return BootFile(self._host.state_dir)


@dataclass(frozen=True)
class Survey:
    """How the agent's own chain of a place stands: its jump, labels that are late, rules that are nobody's."""

    jump: str
    late: Mapping[str, str]
    strangers: Mapping[str, str | None]


def policy_text(policies: Mapping[str, str]) -> str:
    """Policies by family in words: `DROP`, or `ipv4 DROP, ipv6 ACCEPT` where they differ."""
    if len(set(policies.values())) == 1:
        return next(iter(policies.values()))
    return ", ".join(f"{family} {policy}" for family, policy in policies.items())


def policies_in(text: str, families: Sequence[str]) -> dict[str, str]:
    """Policies by family from such words."""
    if " " not in text:
        return dict.fromkeys(families, text)
    return {part.split()[0]: part.split()[1] for part in text.split(", ")}


def _refusal(refused: Mapping[str, Sequence[tuple[str, str]]]) -> ResourceError:
    lines: dict[str, list[str]] = {}
    for family, rules in refused.items():
        for rule, why in rules:
            lines.setdefault(rule, []).append(f"{family}: {why}")
    detail = "\n".join(f"{rule}\n    " + "\n    ".join(why) for rule, why in lines.items())
    good = [family for family, rules in refused.items() if not rules]
    hint = f'it is good for {good[0]} alone: family = "{good[0]}"' if good and len(refused) > 1 else ""
    if any("comment" in why for rules in refused.values() for _, why in rules):
        hint = "the agent marks its rules with the match comment: the kernel needs the module xt_comment"
    count = f"{len(lines)} of its rules" if len(lines) > 1 else "one of its rules"
    return ResourceError(f"{count} would not be taken; nothing was touched", detail=detail, hint=hint)
