"""Bringing about what resources want of the firewall: both families, each table in one instant, and the next boot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.errors import ResourceError
from agent.host.netfilter.confirm import confirmed, put_back
from agent.host.netfilter.lockout import guard
from agent.host.netfilter.ownchains import Place, own_chain, places_of, transition
from agent.host.netfilter.ruleset import FAMILIES, Ruleset, tag

if TYPE_CHECKING:
    from agent.host import Host
    from agent.host.netfilter.firewall import Firewall, Wanted


class Swap:
    """One rewriting of the agent's own chains."""

    def __init__(self, host: Host, firewall: Firewall) -> None:
        self._host = host
        self._firewall = firewall
        self._netfilter = firewall.netfilter

    def carry_out(self, due: Sequence[Wanted]) -> None:
        """Bring these about, each table of each family in one instant, and save what the next boot loads.

        Raises ResourceError before anything is touched where that would cut off whoever is doing it.
        """
        self._firewall.forget()
        edits = {family: text for family in FAMILIES if (text := self._edit(family, due))}
        if edits:
            old = {family: self._netfilter.live(family) for family in edits}
            with confirmed(self._host, self._netfilter, old, edits) as asked:
                if not asked:
                    guard(self._netfilter, old, edits)
                self._load(old, edits)
        self._firewall.forget()
        self._save_for_boot(due)

    def _edit(self, family: str, due: Sequence[Wanted]) -> str:
        labels = {each.label for each in due}
        wanted: dict[Place, dict[str, list[str]]] = {}
        for each in due:
            if each.rules.get(family):
                mine = [f"{tag(each.label)} {rule}" for rule in each.rules[family]]
                wanted.setdefault(each.place, {})[each.label] = mine
        policies = {each.place: each.policies[family] for each in due if family in each.policies}
        try:
            live = self._netfilter.live(family)
        except ResourceError:
            if wanted or policies:
                raise
            return ""
        by_own = places_of(live, [block.place for block in self._firewall.blocks.values()])
        for label in labels:
            for own in live.labelled.get(label, {}):
                if own in by_own:
                    wanted.setdefault(by_own[own], {})
        for table, _ in (*wanted, *policies):
            self._netfilter.table(family, table)
        layout = self._firewall.layout(family)
        content = {
            place: layout.arranged(place, live.rules(place[0], own_chain(place[1])), mine, labels)
            for place, mine in wanted.items()
        }
        return transition(live, content, policies, layout.patterns)

    def _load(self, old: Mapping[str, Ruleset], edits: Mapping[str, str]) -> None:
        """Load the edits; where one fails, what was loaded before it is taken back."""
        done: dict[str, Ruleset] = {}
        try:
            for family, text in edits.items():
                self._netfilter.restore(family, text)
                done[family] = old[family]
        except ResourceError:
            put_back(self._netfilter, done)
            raise

    def _save_for_boot(self, due: Sequence[Wanted]) -> None:
        places = [block.place for block in self._firewall.blocks.values()] + [each.place for each in due]
        for family in FAMILIES:
            with suppress(ResourceError):
                live = self._netfilter.live(family)
                policies = {
                    block.place for block in self._firewall.blocks.values() if block.policy and family in block.families
                }
                kept = self._firewall.boot.policies(family) - {each.place for each in due if each.policies}
                policies |= {place for place in kept if live.policy(*place) != "ACCEPT"}
                self._firewall.boot.write(family, live, policies, places)
        self._firewall.boot.write_ipsets(self._netfilter)
