"""The rules that are loaded at boot, before the network is up, by the unit state-agent-firewall.service."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from agent.errors import ResourceError
from agent.host.netfilter.iptables import Netfilter
from agent.host.netfilter.ownchains import PREFIX, Place, is_jump, own_chain, places_of
from agent.host.netfilter.ruleset import BUILT_IN, FAMILIES, Ruleset, parse, set_names, target
from agent.host.paths import refused

_HEAD = "# The rules of state-agent, as last applied; state-agent-firewall.service loads them at boot.\n"


class BootFile:
    """The files `firewall.ipv4`, `firewall.ipv6` and `firewall.ipsets` in the agent's state folder."""

    def __init__(self, state_dir: str) -> None:
        self._folder = Path(state_dir)

    def _path(self, what: str) -> Path:
        return self._folder / f"firewall.{what}"

    def read(self, family: str) -> Ruleset:
        """What is loaded for a family; nothing where there is no file."""
        try:
            return parse(self._path(family).read_text())
        except FileNotFoundError:
            return Ruleset()

    def policies(self, family: str) -> set[Place]:
        """The built-in chains of which a policy is loaded."""
        tables = self.read(family).tables
        return {
            (table, name)
            for table, chains in tables.items()
            for name, chain in chains.items()
            if name in BUILT_IN[table] and chain.policy is not None
        }

    def write(self, family: str, live: Ruleset, policies: Collection[Place], places: Iterable[Place]) -> None:
        """Save the agent's own chains as they are now."""
        self._write(family, boot_text(live, policies, places))

    def write_ipsets(self, netfilter: Netfilter) -> None:
        """Save those ipsets, empty, that the saved rules use; they have to be there before the rules."""
        names: set[str] = set()
        for family in FAMILIES:
            for chains in self.read(family).tables.values():
                names |= set_names(rule for chain in chains.values() for rule in chain.rules)
        lines = netfilter.ipsets().splitlines() if names else []
        self._write(
            "ipsets", "".join(f"{line}\n" for line in lines if line.split()[:2] in [["create", n] for n in names])
        )

    def _write(self, what: str, text: str) -> None:
        """Replace a file in one instant, unless it is as it should be; one without rules goes."""
        path, new = self._path(what), self._path(f"{what}.new")
        try:
            if not text:
                path.unlink(missing_ok=True)
                return
            if path.is_file() and not path.is_symlink() and path.read_text() == _HEAD + text:
                return
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
                file.write(_HEAD + text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except OSError as error:
            raise _cannot_be_saved(path, error) from None


def _cannot_be_saved(path: Path, error: OSError) -> ResourceError:
    return ResourceError(
        "the rules were loaded, but not saved for the next boot", detail=str(refused(str(path), error))
    )


def boot_text(live: Ruleset, policies: Collection[Place], places: Iterable[Place]) -> str:
    """What brings the agent's own chains, as they are now, into a kernel that has no rules yet; or nothing.

    A rule that leads to a chain of others is left out: that chain is made later, and as long as nobody fills it such
    a rule has no effect.
    """
    text = ""
    by_own = places_of(live, places)
    for table, chains in live.tables.items():
        owns = {own: place[1] for (its, own), place in by_own.items() if its == table and own in chains}
        head = [f":{chain} {live.policy(its, chain)} [0:0]" for its, chain in sorted(policies) if its == table]
        head += [f":{chain} - [0:0]" for chain in owns.values() if chain not in BUILT_IN[table]]
        head += [f":{own} - [0:0]" for own in owns]
        body = [f"-A {own} {rule}" for own in owns for rule in bootable(live, table, chains[own].rules)]
        for own, chain in owns.items():
            body += [f"-I {chain} 1 {rule}" for rule in live.rules(table, chain) if is_jump(rule, own)][:1]
        if head or body:
            text += "\n".join([f"*{table}", *head, *body, "COMMIT", ""])
    return text


def bootable(live: Ruleset, table: str, rules: Iterable[str]) -> list[str]:
    """Those rules that can be loaded before others have made their chains."""
    chains = live.chains(table)
    foreign = {
        name
        for name, chain in chains.items()
        if chain.policy is None and not name.startswith(PREFIX) and own_chain(name) not in chains
    }
    return [rule for rule in rules if target(rule) not in foreign]
