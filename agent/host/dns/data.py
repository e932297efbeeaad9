"""Values of DNS records: every spelling of a value becomes the one that the wire has (RFC 4034, section 6.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dns.rdata import Rdata

EXAMPLES = {
    "A": "192.0.2.1",
    "AAAA": "2001:db8::1",
    "CAA": '0 issue "letsencrypt.org"',
    "CNAME": "mail.example.net",
    "MX": "10 mail.example.net",
    "NS": "ns1.example.net",
    "PTR": "mail.example.net",
    "SRV": "0 1 993 mail.example.net",
    "TLSA": "3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "TXT": "v=spf1 mx -all",
}
"""The types there are, each with a value."""
_LONGEST_STRING = 255
_TAG = re.compile(r"v=[a-z0-9]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Record:
    """A name and a type, the question that is asked of a nameserver; the name without the dot at its end."""

    name: str
    type: str

    def line(self, value: str, ttl: int | None) -> str:
        """A line of a zone file (RFC 1035, section 5)."""
        words = [f"{self.name}.", *([] if ttl is None else [str(ttl)]), "IN", self.type]
        return " ".join([*words, parsed(self.type, value).to_text()])


@dataclass(frozen=True, slots=True)
class Found:
    """What a nameserver has for a record: its values, sorted, and how long others may keep them, where it told; of an
    `alias` the one value says only that."""

    values: tuple[str, ...]
    ttl: int | None
    alias: bool = False


def parsed(type: str, value: str) -> Rdata:
    """A value as the wire has it. Names are absolute, with and without a dot at their end.

    A TXT is the text itself, or strings in quotes as a zone file has them; it is cut into strings of 255 bytes.
    Raises ValueError with a sentence.
    """
    import dns.exception
    import dns.name
    import dns.rdata
    import dns.rdatatype

    try:
        if type == "TXT" and not value.startswith('"'):
            return _text(value.encode())
        found = dns.rdata.from_text("IN", type, value, origin=dns.name.root, relativize=False)
    except (dns.exception.DNSException, ValueError):
        raise ValueError(f'"{value}" is not the value of a record of type {type}, such as {EXAMPLES[type]}') from None
    return canonical(found)


def canonical(found: Rdata) -> Rdata:
    """The one form of a value that all its spellings share."""
    import dns.name
    import dns.rdata
    import dns.rdatatype

    if found.rdtype == dns.rdatatype.TXT:
        return _text(b"".join(found.strings))  # type: ignore[attr-defined]
    if found.rdtype == dns.rdatatype.CAA:
        found = found.replace(tag=found.tag.lower())  # type: ignore[attr-defined]
    wire = found.to_digestable(dns.name.root)
    return dns.rdata.from_wire(found.rdclass, found.rdtype, wire, 0, len(wire))


def _text(content: bytes) -> Rdata:
    import dns.rdataclass
    import dns.rdatatype
    from dns.rdtypes.ANY.TXT import TXT

    strings = [content[i : i + _LONGEST_STRING] for i in range(0, len(content), _LONGEST_STRING)] or [b""]
    return TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings)


def shown(found: Rdata) -> str:
    """A value for people, and for comparing: the joined text of a TXT, else as it stands in a zone file."""
    import dns.rdatatype

    found = canonical(found)
    if found.rdtype != dns.rdatatype.TXT:
        return found.to_text()
    text = b"".join(found.strings).decode("utf-8", "backslashreplace")  # type: ignore[attr-defined]
    return found.to_text() if text.startswith('"') else text


def normal(type: str, values: Iterable[str]) -> list[str]:
    """These values as they are compared: sorted, each in its one spelling; raises ValueError for one that is none."""
    return sorted({shown(parsed(type, value)) for value in values})


def version_tag(text: str) -> str | None:
    """What a TXT record says that it is, such as `v=spf1` or `v=dmarc1`: there must be one of each at a name."""
    found = _TAG.match(text.strip())
    return found[0].lower() if found else None
