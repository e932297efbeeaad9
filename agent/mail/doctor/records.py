"""DNS as the world sees it: the declared records, the name of the address, the way in and the way out."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from agent.errors import Unanswered
from agent.host.dns.data import Record
from agent.mail.doctor.finding import Finding, failed, passed, skipped, warned
from agent.mail.doctor.site import MailHost
from agent.mail.doctor.talk import connected
from agent.mail.zone import DIFFERS, MISSING, THERE, Wanted, compare, lines, wanted

_SHORT = 5.0
_ASK = "can this host ask DNS? look at /etc/resolv.conf"


def records(mail: MailHost) -> Iterator[Finding]:
    """The records that the site declares."""
    declared = wanted(mail.entries, mail.host)
    compare(declared, mail.host)
    unknown = [each for each in declared if each.state not in (THERE, MISSING, DIFFERS)]
    for each in declared:
        if each not in unknown:
            yield _record(each, mail)
    if unknown:
        seen = f"{len(unknown)} of {len(declared)} records are not known: {unknown[0].note}"
        yield warned("dns", seen, _ASK)


def _record(each: Wanted, mail: MailHost) -> Finding:
    name = f"dns:{each.name} {each.type}"
    if each.state == THERE:
        return passed(name, "as declared")
    seen = "it is not there" if each.state == MISSING else f"it says {'; '.join(each.found)}"
    hint = "it must say: " + " / ".join(lines(each, "")) if each.resource.ensure == "present" else "remove it"
    return failed(name, seen, hint) if _needed(each, mail) else warned(name, seen, hint)


def _needed(each: Wanted, mail: MailHost) -> bool:
    """Whether mail is lost, or taken for spam, without it; what is there and wrong may do as much harm."""
    if each.type in ("SRV", "CAA") or each.name.startswith(("_smtp._tls.", "_dmarc.", "_mta-sts.")):
        return False
    former = mail.get("opendkim", "former_selectors") if mail.has("opendkim") else []
    return each.name.partition(".")[0] not in former


def public_addresses(mail: MailHost) -> list[str]:
    """The addresses that the world sends mail to: declared, or those that DNS has; raises Unanswered."""
    declared = [str(mail.get("dns", name)) for name in ("ipv4", "ipv6") if mail.has("dns") and mail.get("dns", name)]
    if declared:
        return declared
    found = [mail.host.nameservers.find(Record(mail.hostname, type)) for type in ("A", "AAAA")]
    return [value for each in found if each is not None and not each.alias for value in each.values]


def reverse(mail: MailHost) -> Iterator[Finding]:
    """Whether the public address bears the name that the server gives itself."""
    hint = f"whoever gives this host its address must set its reverse record (PTR) to {mail.hostname}"
    try:
        for address in public_addresses(mail):
            name = f"ptr:{address}"
            record = Record(ip_address(address).reverse_pointer, "PTR")
            found = mail.host.nameservers.find(record)
            names = [value.rstrip(".") for value in found.values] if found is not None else []
            if mail.hostname in names:
                yield passed(name, f"it is {mail.hostname}, as the server calls itself")
            else:
                yield failed(name, f"it is {', '.join(names) or 'nothing'}, not {mail.hostname}", hint)
    except Unanswered as error:
        yield warned("ptr", error.summary, f"{_ASK}; {hint}")


def router(mail: MailHost) -> Iterator[Finding]:
    """Whether the public address leads to this host; behind a router, what that has to forward."""
    try:
        public = public_addresses(mail)
    except Unanswered as error:
        yield warned("router", f"where {mail.hostname} leads is not known: {error.summary}", "see the findings on DNS")
        return
    if not public:
        yield skipped("router", f"{mail.hostname} has no address in DNS yet, and none is declared (dns.ipv4)")
    for address in public:
        name = f"router:{address}"
        if address in mail.addresses:
            yield passed(name, f"{mail.hostname} leads to this host's own address")
            continue
        own = next((each for each in mail.addresses if (":" in each) == (":" in address)), "this host")
        mail.say(f"whether {address} leads here")
        if _greets(address, mail.hostname):
            yield passed(name, f"the router forwards port 25 of {address} to this host ({own})")
            continue
        ports = ", ".join(map(str, mail.ports))
        hint = f"the router must forward TCP ports {ports} to {own}; many cannot be asked that from inside"
        yield warned(name, f"{mail.hostname} is {address}, which is not an address of this host", hint)


def _greets(address: str, hostname: str) -> bool:
    try:
        with connected(address, 25, timeout=_SHORT) as server:
            server.ehlo()
            return hostname.encode() in (server.ehlo_resp or b"").lower()
    except OSError:
        return False


def way_out(mail: MailHost) -> Iterator[Finding]:
    """Whether port 25 of others can be reached: many providers block it."""
    domain = mail.probe_domain
    if not domain:
        return
    mail.say(f"port 25 of {domain}")
    try:
        found = mail.host.nameservers.find(Record(domain, "MX"))
    except Unanswered as error:
        yield warned("port-25-out", error.summary, _ASK)
        return
    servers = sorted((int(value.split()[0]), value.split()[1].rstrip(".")) for value in found.values) if found else []
    server = servers[0][1] if servers else domain
    try:
        with connected(server, 25, timeout=_SHORT):
            yield passed("port-25-out", f"{server} answers")
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        hint = "many providers block port 25: ask yours to open it, or send through a relayhost of theirs"
        yield warned("port-25-out", f"{server} cannot be reached on port 25: {why}", hint)
