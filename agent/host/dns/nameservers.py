"""Nameservers: asked what they have.

What is not given is found through the system's resolver: the zone that a name is in, and the nameservers of that zone,
which are asked themselves, because a resolver may answer from memory. Where none of them answers (some networks let no
question out), the resolver's own answer is taken. Each server has a few seconds; one that was silent is not
asked again until something on this host was changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from agent.errors import ResourceError, Unanswered
from agent.host.dns.data import Found, Record, canonical, shown
from agent.host.dns.exchange import (
    LIFETIME,
    Address,
    address_of,
    addresses,
    addresses_by,
    exchange,
    in_words,
    system_resolver,
    why,
)

if TYPE_CHECKING:
    from dns.message import Message
    from dns.name import Name
    from dns.resolver import Resolver

_ROUNDS = 2
_AT_ONCE = 16


class Nameservers:
    """What nameservers said, for one run."""

    def __init__(self) -> None:
        self._answers: dict[tuple[Record, str | None], Found | Unanswered | None] = {}
        self._zones: dict[str, tuple[str, list[Address]]] = {}
        self._silent: dict[Address, str] = {}
        self._resolver: Resolver | None = None
        self._mute = ""

    def ask_all(self, questions: Iterable[tuple[Record, str | None]]) -> None:
        """Ask many questions at once; `find` then knows the answers."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._ask_quietly, dict.fromkeys(questions)))

    def _ask_quietly(self, question: tuple[Record, str | None]) -> None:
        with contextlib.suppress(Unanswered):
            self.find(*question)

    def find(self, record: Record, server: str | None = None) -> Found | None:
        """What the nameserver has for a record, None where it has nothing; raises Unanswered."""
        question = (record, server)
        if question not in self._answers:
            try:
                self._answers[question] = self._find(record, server)
            except Unanswered as error:
                self._answers[question] = error
        answer = self._answers[question]
        if isinstance(answer, Unanswered):
            raise answer
        return answer

    def forget(self) -> None:
        """Drop what was answered, and who was silent: it may have been changed."""
        self._answers.clear()
        self._silent.clear()
        self._mute = ""

    def _find(self, record: Record, server: str | None) -> Found | None:
        if server is not None:
            return _found(record, self._ask(record, addresses(address_of(server))), told_ttl=True)
        try:
            return _found(record, self._ask(record, self._zone(record.name)[1]), told_ttl=True)
        except Unanswered:
            return _found(record, self._resolved(record.name, record.type), told_ttl=False)

    def _ask(self, record: Record, servers: Sequence[Address]) -> Message:
        """The first answer that any of these servers gives."""
        reasons: dict[Address, str] = {}
        for _ in range(_ROUNDS):
            for server in servers:
                if server in self._silent:
                    reasons[server] = self._silent[server]
                elif reasons.get(server, "no answer") == "no answer":
                    answer = exchange(record, server)
                    if not isinstance(answer, str):
                        return answer
                    reasons[server] = answer
        self._silent |= {server: said for server, said in reasons.items() if said == "no answer"}
        said = ", ".join(f"{in_words(server)}: {reason}" for server, reason in reasons.items())
        raise Unanswered(f"{record.name} {record.type} could not be asked: {said or 'its zone has no nameservers'}")

    # The system's resolver

    @property
    def _system(self) -> Resolver:
        """The system's resolver; it remembers what it was told, for the run."""
        import dns.resolver

        if self._resolver is None:
            self._resolver = system_resolver()
            self._resolver.cache = dns.resolver.LRUCache()
        return self._resolver

    def _zone(self, name: str) -> tuple[str, list[Address]]:
        """The zone that a name is in, and the addresses of its nameservers."""
        import dns.resolver

        if name not in self._zones:
            with self._resolving(f"the zone of {name} could not be found"):
                zone = dns.resolver.zone_for_name(name, resolver=self._system, lifetime=LIFETIME)
                hosts = [str(each.target) for each in self._system.resolve(zone, "NS")]
                servers = [address for host in hosts for address in addresses_by(self._system, host)]
            self._zones[name] = (zone.to_text(omit_final_dot=True), servers)
        return self._zones[name]

    def _resolved(self, name: str, type: str) -> Message:
        import dns.resolver

        with self._resolving(f"{name} {type} could not be asked"):
            try:
                return self._system.resolve(name + ".", type, raise_on_no_answer=False).response
            except dns.resolver.NXDOMAIN as error:
                return error.response(error.qnames()[0])  # type: ignore[no-any-return, no-untyped-call]

    @contextlib.contextmanager
    def _resolving(self, failure: str) -> Iterator[None]:
        """What goes wrong with the system's resolver; one that was silent once is not waited for again."""
        import dns.exception

        if self._mute:
            raise Unanswered(f"{failure}: {self._mute}")
        try:
            yield
        except (dns.exception.DNSException, OSError) as error:
            if isinstance(error, dns.exception.Timeout):
                self._mute = "the resolver of this host does not answer"
            raise Unanswered(f"{failure}: {self._mute or why(error)}") from None

    def primary(self, name: str) -> str:
        """The server that takes updates for a name: the one that the zone itself names as its origin."""
        zone = self._zone(name)[0]
        for record in self._resolved(zone, "SOA").answer:
            return str(record[0].mname).removesuffix(".")
        raise Unanswered(f"the zone {zone} names no primary server")

    def zone_at(self, name: str, server: str) -> Name:
        """The zone that a name is in, as the server itself sees it."""
        import dns.rdatatype

        labels = name.split(".")
        for i in range(len(labels)):  # what is delegated is answered with a referral: then the zone is further up
            answer = self._ask(Record(".".join(labels[i:]), "SOA"), addresses(address_of(server)))
            for rrset in (*answer.answer, *answer.authority):
                if rrset.rdtype == dns.rdatatype.SOA:
                    return rrset.name
        raise ResourceError(f"{server} has no zone for {name}", hint="is it the primary server of that zone?")


def _found(record: Record, answer: Message, *, told_ttl: bool) -> Found | None:
    """The values in an answer; of a name that is an alias only the alias itself."""
    import dns.name
    import dns.rdatatype

    name = dns.name.from_text(record.name)
    # The nameservers of a delegated zone come as a referral (RFC 1034, section 4.3.2).
    delegation = answer.authority if record.type == "NS" else []
    for rrset in (*answer.answer, *delegation):
        if rrset.name == name and rrset.rdtype == dns.rdatatype.from_text(record.type):
            return Found(tuple(sorted({shown(canonical(each)) for each in rrset})), rrset.ttl if told_ttl else None)
    for rrset in answer.answer:
        if rrset.name == name and rrset.rdtype == dns.rdatatype.CNAME:
            return Found((f"an alias of {rrset[0].to_text()}",), None, alias=True)
    return None
