"""The records that a site declares, as the text of a zone file (RFC 1035, section 5) and compared with DNS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from agent.errors import KnownAfterApply, NotPermitted, ResourceError
from agent.host import Host
from agent.resource import differences
from agent.resources.dns_record import DnsRecord

TTL = 3600
_REVERSE = (".in-addr.arpa", ".ip6.arpa")

THERE, MISSING, DIFFERS, UNKNOWN = "there", "missing", "differs", "unknown"


@dataclass(slots=True)
class Wanted:
    """One declared record: its values, or in `note` why they are not known.

    `state` is how it compares with DNS, where that was asked: `there`, `missing`, `differs` (then `found` is what is
    there) or `unknown` (then `note` says why).
    """

    resource: DnsRecord
    source: str
    values: list[str] = field(default_factory=list)
    note: str = ""
    state: str | None = None
    found: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name, without the dot at its end."""
        return self.resource.record.name

    @property
    def type(self) -> str:
        """Its type, such as `TXT`."""
        return self.resource.record.type

    @property
    def is_reverse(self) -> bool:
        """Whether it stands in a zone of whoever gives the addresses."""
        return self.name.endswith(_REVERSE)


def wanted(entries: Iterable[Any], host: Host) -> list[Wanted]:
    """All records that the site declares (`entries` are those of its compiled form), with their values."""
    found = [Wanted(each.resource, each.source) for each in entries if isinstance(each.resource, DnsRecord)]
    for each in found:
        try:
            each.values = each.resource.values(host)
        except KnownAfterApply as error:
            each.note = f"known after apply: {error.summary}"
        except NotPermitted as error:
            each.note = f"not readable: {error.summary}"
        except ResourceError as error:
            each.note = f"not known: {error.summary}"
    return found


def compare(records: Sequence[Wanted], host: Host) -> None:
    """Ask DNS for all of them, and note how they compare."""
    asked = [each for each in records if not each.note]
    DnsRecord.prefetch(host, [each.resource for each in asked])
    for each in records:
        each.state = UNKNOWN if each.note else _compared(each, host)


def _compared(record: Wanted, host: Host) -> str:
    try:
        actual = record.resource.read(host)
    except ResourceError as error:
        record.note = error.summary
        return UNKNOWN
    record.found = list((actual or {}).get("value", ()))
    change = differences(actual, record.resource.desired(host))
    if change is None:
        return THERE
    return MISSING if change.actual is None else DIFFERS


def origin(records: Iterable[Wanted]) -> str:
    """The domain that all names lie in, leaving reverse zones out; empty where they share none."""
    names = [each.name.split(".")[::-1] for each in records if not each.is_reverse]
    shared: list[str] = []
    for labels in zip(*names, strict=False):
        if len(set(labels)) > 1:
            break
        shared.append(labels[0])
    return ".".join(reversed(shared)) if len(shared) > 1 else ""


def lines(record: Wanted, within: str) -> list[str]:
    """The lines of one record, its name relative to an origin; its TTL only where it is another than the zone's."""
    from agent.host.dns.data import parsed

    time = record.resource.seconds_to_live
    words = [_relative(record.name, within), *([str(time)] if time != TTL else []), "IN", record.type]
    return [" ".join([*words, parsed(record.type, value).to_text()]) for value in record.values]


def _relative(name: str, within: str) -> str:
    if name == within:
        return "@"
    return name.removesuffix(f".{within}") if within and name.endswith(f".{within}") else f"{name}."


def text(records: Sequence[Wanted]) -> list[str]:
    """The lines of a zone file without SOA and NS, to be put or included ($INCLUDE) into one that has them.

    What is not known yet, what must not be there, and what belongs into a reverse zone are comments.
    """
    within = origin(records)
    found = [f"$ORIGIN {within}.", f"$TTL {TTL}"]
    for each in records:
        if each.note:
            found.append(f"; {each.name} {each.type}: {each.note}")
        elif each.resource.ensure == "absent":
            found.append(f"; not to be there: {each.name} {each.type} {', '.join(each.values)}".rstrip())
        elif not each.is_reverse:
            found += lines(each, within)
    for name in _without_address(records, within):
        found.append(f"; {name} has no A or AAAA record here, and mail needs one: see ipv4 in `agent docs dns`")
    reverse = _reverse(records)
    if reverse:
        found.append("; the reverse zone is kept by whoever gives this host its address; it must say:")
        found += [f"; {line}" for line in reverse]
    return list(dict.fromkeys(found))


def _present(records: Sequence[Wanted]) -> list[Wanted]:
    return [each for each in records if each.values and each.resource.ensure == "present"]


def _servers(records: Sequence[Wanted]) -> set[str]:
    """The mail servers that the records name."""
    found = {value.split()[1].removesuffix(".") for each in records if each.type == "MX" for value in each.values}
    return found - {""}  # "no mail at all" (RFC 7505)


def _without_address(records: Sequence[Wanted], within: str) -> list[str]:
    """The mail servers of this zone that no record says the address of."""
    declared = {each.name for each in records if each.type in ("A", "AAAA") and each.resource.ensure == "present"}
    return sorted(name for name in _servers(_present(records)) - declared if f".{name}".endswith(f".{within}"))


def _reverse(records: Sequence[Wanted]) -> list[str]:
    """The PTR records that are declared, and those of the mail servers' addresses: many refuse mail without one."""
    present = _present(records)
    servers = _servers(present)
    found = [line for each in present if each.is_reverse for line in lines(each, "")]
    for each in present:
        if each.type in ("A", "AAAA") and each.name in servers:
            found += [f"{ip_address(value).reverse_pointer}. IN PTR {each.name}." for value in each.values]
    return list(dict.fromkeys(found))
