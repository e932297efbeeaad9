"""Rules of netfilter, through iptables and ip6tables."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from agent.errors import ResourceError
from agent.fields import Doc, Parsed, Regex
from agent.host import Host
from agent.host.netfilter.firewall import IN_ORDER, SAVED, Wanted, policies_in
from agent.host.netfilter.ownchains import FIRST, PREFIX, own_chain
from agent.host.netfilter.ruleset import BUILT_IN, FAMILIES, Block
from agent.resource import Change, Groupable, Prefetching, Resource, State, Undoable
from agent.sources import Rules, Source

_COMMAND = re.compile(r"(?:^|\s)(-[ADINXPFZERSLC]|--(?:append|insert|delete|policy|flush|new-chain|table)|-t)(?:\s|$)")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


def rule_text(text: str) -> str:
    """A rule as it follows `iptables -A CHAIN`."""
    plain = text.strip()
    if any(ord(character) < 32 for character in plain):
        raise ValueError("a rule is one line without control characters")
    if not plain:
        raise ValueError('a rule is empty: "-j ACCEPT" is one that matches everything')
    if plain.startswith(("iptables", "ip6tables")) or _COMMAND.search(_QUOTED.sub('""', plain)):
        raise ValueError(f'"{plain}": leave out all that comes before the rule itself, such as "iptables -A INPUT"')
    if "state-agent:" in plain:
        raise ValueError('a rule cannot have "state-agent:" in it: that is how the agent marks its own')
    return plain


def label_text(text: str) -> str:
    """A label that can stand in the comment of a rule."""
    if not text.isprintable() or re.search(r'["\\]', text) or len(text.encode()) > 200 or text != text.strip():
        raise ValueError("a label is at most 200 bytes of printable text, without quotation marks and backslashes")
    return text


def chain_name(text: str) -> str:
    """The name of a chain (iptables(8))."""
    if not re.fullmatch(r"[^\s!:\"'\\-][^\s\"'\\:]{0,27}", text) or text.startswith(PREFIX):
        raise ValueError(f'"{text}" is not the name of a chain: up to 28 characters, such as "INPUT"')
    return text


Rule = Annotated[str, Parsed(rule_text)]
ChainName = Annotated[str, Parsed(chain_name)]


def _default_ignore() -> list[str]:
    return ["-j f2b-"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Iptables(Resource, Prefetching, Groupable, Undoable):
    """Rules of netfilter for one chain, in a chain of the agent's own that is swapped in one instant.

    The rules of all resources for one chain are put in order into a chain such as `state-agent-INPUT`, which one jump
    from the head of the built-in chain leads to; each carries a comment with its resource's label. Rules and chains of
    others stay as they are. The kernel is the judge of equality: rules are loaded into a throw-away network namespace
    and read back, so that every spelling compares as the kernel sees it. Rules that it refuses are an error before
    anything is touched.

    A chain that does not exist is made. Rules that would cut off the ssh connection over which they are applied are not
    loaded, unless `agent apply --confirm SECONDS` puts the old ones back in time. What was applied last is loaded at
    boot, before the network is up (`state-agent-firewall.service`).
    """

    kind: ClassVar[str] = "iptables"
    waits: ClassVar[bool] = True
    not_undone: ClassVar[tuple[str, ...]] = ("elsewhere", "boot", "jump", "order", "foreign")
    undone_whole: ClassVar[bool] = True
    example: ClassVar[str] = (
        '[iptables.base]\nchain = "INPUT"\norder = -10\npolicy = "DROP"\nrules = [\n'
        '    "-i lo -j ACCEPT",\n    "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",\n'
        '    "-4 -p icmp -j ACCEPT",\n    "-6 -p ipv6-icmp -j ACCEPT",\n    "-p tcp --dport ssh -j ACCEPT",\n]\n\n'
        '[iptables.mail]\nchain = "INPUT"\nrules = ["-p tcp -m multiport --dports smtp,imaps -j ACCEPT"]\n'
    )
    needs_of_state: ClassVar[tuple[str, ...]] = ("apt",)
    previewed: ClassVar[tuple[str, ...]] = (*FAMILIES, "foreign", "elsewhere")

    name: Annotated[str, Parsed(label_text), Doc("A label; it stands in the comment of every rule")]
    ensure: Annotated[Literal["present", "absent"], Doc("`absent`: its rules are gone, wherever they stood")] = (
        "present"
    )
    chain: Annotated[
        ChainName | None, Doc("The chain: a built-in one, such as `INPUT`, or one of others, such as `DOCKER-USER`")
    ] = None
    table: Annotated[Literal["filter", "nat", "mangle", "raw", "security"], Doc("The table")] = "filter"
    rules: Annotated[
        list[Rule],
        Doc("Rules in their order, as they follow `iptables -A CHAIN`; one with `-4` or `-6` is of one family"),
    ] = field(default_factory=list)
    policy: Annotated[
        Literal["ACCEPT", "DROP"] | None, Doc("The policy of the built-in chain; left as it is where not given")
    ] = None
    order: Annotated[
        int, Doc("Its place among the resources of the chain: lower comes first, then the order of declaration")
    ] = 0
    family: Annotated[
        Literal["both", "ipv4", "ipv6"], Doc("Whether the rules are for IPv4, IPv6 or both, where each must be valid")
    ] = "both"
    ignore: Annotated[
        list[Regex],
        Doc(
            "Patterns of rules of others, as `iptables-save` prints them, that are left alone in the agent's own chain "
            "and may stand ahead of the jump to it; the jumps of fail2ban have to, and do by default"
        ),
    ] = field(default_factory=_default_ignore)

    def problems(self) -> Iterable[str]:
        """What is wrong across its fields."""
        if self.ensure == "absent":
            if self.policy is not None:
                yield 'policy has no meaning with ensure = "absent"'
            return
        if self.chain is None:
            yield "chain is missing"
        if not self.rules and self.policy is None:
            yield "one of rules and policy is needed"
        if self.chain is not None and self.policy is not None and self.chain not in BUILT_IN[self.table]:
            built_in = ", ".join(BUILT_IN[self.table])
            yield f"only a built-in chain has a policy; those of the table {self.table} are {built_in}"

    def claims(self) -> Iterable[tuple[str, str]]:
        if self.policy is not None:
            for family in self.families:
                yield f"the {family} policy of {self.table}/{self.chain}", f"is {self.policy}"

    @property
    def families(self) -> tuple[str, ...]:
        """The families that its rules are for."""
        return FAMILIES if self.family == "both" else (self.family,)

    def block(self) -> Block:
        """What it declares; nothing where it is to be absent."""
        place = (self.table, self.chain or "")
        if self.ensure == "absent":
            return Block(self.name, place, self.families)
        return Block(
            self.name, place, self.families, tuple(self.rules), self.policy, self.order, tuple(self.ignore)
        )  # fmt: skip

    @classmethod
    def prefetch(cls, host: Host, resources: Sequence[Iptables]) -> None:
        host.firewall.selected = frozenset(resource.name for resource in resources)
        for resource in resources:
            with suppress(ResourceError):  # `read` tells of it
                host.firewall.ask_kernel(resource.block())

    def desired(self, host: Host) -> State | None:
        if self.ensure == "absent":
            return None
        rules = host.firewall.rules_of(self.block())
        state: dict[str, Any] = {family: rules.get(family, []) for family in FAMILIES}
        state |= {"elsewhere": [], "boot": SAVED}
        if self.rules:
            state |= {"jump": FIRST, "order": IN_ORDER, "foreign": []}
        if self.policy is not None:
            state["policy"] = self.policy
        return state

    def read(self, host: Host) -> State | None:
        return host.firewall.state(self.block())

    def _wanted(self, state: State | None) -> Wanted:
        """What a state asks of the firewall."""
        found = state or {}
        policies = policies_in(found["policy"], self.families) if found.get("policy") else {}
        rules = {family: found.get(family, ()) for family in FAMILIES}
        return Wanted(self.name, (self.table, self.chain or ""), rules, policies)

    @classmethod
    def apply_group(cls, host: Host, items: Sequence[tuple[Iptables, Change]]) -> Mapping[str, Exception]:
        """Bring all these about in one go; a table with rules that the kernel refuses is not touched."""
        errors: dict[str, Exception] = {}
        due = []
        for resource, change in items:
            try:
                beside = host.firewall.refused_beside(resource.block())
                if beside is not None:
                    raise ResourceError(
                        f"the table {resource.table} was not touched: the rules of iptables:{beside} would not be taken"
                    )
                due.append((resource.id, resource._wanted(change.desired)))
            except ResourceError as error:
                errors[resource.id] = error
        try:
            host.firewall.swap([wanted for _, wanted in due])
        except ResourceError as error:
            errors |= {id: error for id, _ in due}
        return errors

    def apply(self, host: Host, change: Change) -> None:
        for error in self.apply_group(host, [(self, change)]).values():
            raise error

    def undo(self, host: Host, before: State | None) -> None:
        host.firewall.swap([self._wanted(before)])

    def watched(self) -> Iterable[Source]:
        return [Rules()]

    def summary(self, host: Host, change: Change) -> str:  # noqa: ARG002
        if change.actual is not None and change.desired is not None:
            return ""
        state = change.desired or change.actual or {}
        count = max(len(state.get(family, ())) for family in FAMILIES)
        where = f"{self.table}/{self.chain}" if self.chain else f"{len(state.get('elsewhere', ()))} elsewhere"
        policy = f"policy {self.policy}, " if self.policy and change.desired else ""
        return f"{where}: {policy}{count} {'rule' if count == 1 else 'rules'}"

    def preview(self, host: Host, change: Change) -> Sequence[str]:  # noqa: ARG002
        own = own_chain(self.chain or "")
        lines: dict[str, list[str]] = {}
        for family in FAMILIES:
            old, new = ((state or {}).get(family, []) for state in (change.actual, change.desired))
            for line in list(difflib.unified_diff(old, new, n=0, lineterm=""))[2:]:
                if line[0] in "+-":
                    lines.setdefault(f"{line[0]} -A {own} {line[1:]}", []).append(family)
        stale = [f"- {rule}" for rule in (change.actual or {}).get("elsewhere", ())]
        strange = [f"- -A {own} {rule}" for rule in (change.actual or {}).get("foreign", ())]
        return [
            *(line if tuple(its) == self.families else f"{line}  ({its[0]})" for line, its in lines.items()),
            *strange,
            *stale,
        ]
