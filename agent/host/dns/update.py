"""Dynamic updates of a zone (RFC 2136), signed with TSIG (RFC 8945)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import ResourceError
from agent.host.dns.data import Found, Record, parsed
from agent.host.dns.exchange import address_of, addresses, why
from agent.host.dns.nameservers import Nameservers

if TYPE_CHECKING:
    from dns.message import Message
    from dns.name import Name

ALGORITHMS = ("hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Key:
    """A TSIG key (RFC 8945); `secret` is base64."""

    name: str
    algorithm: str
    secret: str

    def __repr__(self) -> str:
        return f"Key({self.name})"


@dataclass(frozen=True, slots=True)
class Primary:
    """A server that takes updates; `zone` where it cannot tell itself which of its zones a name is in."""

    server: str
    zone: str | None = None
    key: Key | None = None

    def put(self, asked: Nameservers, record: Record, values: Sequence[str], ttl: int) -> None:
        """Have exactly these values at a name; nothing is changed where others change it at the same moment."""
        import dns.name

        asked.forget()
        before = asked.find(record, self.server)
        origin = dns.name.from_text(self.zone) if self.zone is not None else asked.zone_at(record.name, self.server)
        code = self._update(origin, record, before, values, ttl)
        if code == "NXRRSET" and before is not None:
            # What is seen there may be a wildcard's: that is nothing at this name (RFC 4592), and stays.
            code = self._update(origin, record, None, values, ttl)
        if code == "YXRRSET" and before is not None and before.alias:
            raise ResourceError(f"{record.name} is {before.values[0]}", hint="an alias has no other records; remove it")
        if code != "NOERROR":
            raise _refused(self.server, code, origin.to_text())
        asked.forget()

    def _update(self, origin: Name, record: Record, before: Found | None, values: Sequence[str], ttl: int) -> str:
        """What the server says to an update of what was found there `before`."""
        import dns.name
        import dns.rdataset
        import dns.update

        message = dns.update.UpdateMessage(origin, **_signed_by(self.key))
        name = dns.name.from_text(record.name)
        if before is None or before.alias:
            message.absent(name, record.type)
            if before is not None:
                message.absent(name, "CNAME")
        else:
            old = [parsed(record.type, value) for value in before.values]
            message.present(name, dns.rdataset.from_rdata_list(0, old))
        message.delete(name, record.type)
        if values:
            new = [parsed(record.type, value) for value in values]
            message.add(name, dns.rdataset.from_rdata_list(ttl, new))
        return _answered(message, self.server)


def _signed_by(key: Key | None) -> dict[str, Any]:
    import binascii

    import dns.name
    import dns.tsigkeyring

    if key is None:
        return {}
    try:
        ring = dns.tsigkeyring.from_text({key.name: (key.algorithm, key.secret)})
    except (binascii.Error, ValueError):
        raise ResourceError(f"the secret of the key {key.name} is not base64") from None
    return {"keyring": ring, "keyname": dns.name.from_text(key.name), "keyalgorithm": key.algorithm}


def _answered(message: Message, server: str) -> str:
    """The code that a server answers an update with. Raises ResourceError where the key does not do, or none comes."""
    import dns.exception
    import dns.message
    import dns.query
    import dns.rcode
    import dns.tsig

    host, port = addresses(address_of(server))[0]
    try:
        answer = dns.query.tcp(message, host, timeout=_PATIENCE, port=port)
    except (dns.tsig.PeerError, dns.tsig.BadSignature, dns.tsig.BadTime, dns.message.UnknownTSIGKey) as error:
        raise _refused(server, _TSIG.get(type(error).__name__, "TSIG")) from None
    except (dns.exception.DNSException, OSError) as error:
        raise ResourceError(f"{server} did not take the update: {why(error)}") from None
    return dns.rcode.to_text(answer.rcode())


_TSIG = {"PeerBadKey": "BADKEY", "PeerBadSignature": "BADSIG", "PeerBadTime": "BADTIME", "BadTime": "BADTIME"}
_REASONS = {
    "BADKEY": "it does not know the key: are name and algorithm right?",
    "BADSIG": "the key's secret is another one there",
    "BADTIME": "its clock and that of this host differ too much",
    "NOTAUTH": "it does not know the key (are its name and algorithm right?), or is not the primary server of {zone}",
    "NOTZONE": "the name does not lie in {zone}",
    "REFUSED": "it does not let this key (or, without one, this host) update {zone}",
    "NXRRSET": "somebody else changed the record at the same moment; apply again",
    "YXRRSET": "somebody else changed the record at the same moment; apply again",
}


def _refused(server: str, code: str, zone: str = "") -> ResourceError:
    return ResourceError(f"{server} refused the update: {code}", hint=_REASONS.get(code, "").format(zone=zone))
