"""One question to one nameserver, and what can come of it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from agent.errors import Unanswered
from agent.host.dns.data import Record

if TYPE_CHECKING:
    from dns.message import Message, QueryMessage
    from dns.resolver import Resolver

PORT = 53
LIFETIME = 3.0
_PATIENCE = 1.5
_PAYLOAD = 1232
Address = tuple[str, int]


def address_of(server: str) -> Address:
    """Host and port of a server that is written `HOST`, `HOST:PORT` or `[IPV6]:PORT`; raises ValueError."""
    host, port = server, str(PORT)
    if server.startswith("["):
        host, _, rest = server[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif server.count(":") == 1:
        host, _, port = server.partition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f'"{server}" is not a nameserver: write HOST, HOST:PORT or [IPV6]:PORT')
    return host, int(port)


def system_resolver() -> Resolver:
    """The resolver of /etc/resolv.conf, with little patience."""
    import dns.resolver

    resolver = dns.resolver.Resolver()
    resolver.timeout, resolver.lifetime = _PATIENCE, LIFETIME
    return resolver


def _query(record: Record) -> QueryMessage:
    import dns.message

    return dns.message.make_query(record.name + ".", record.type, use_edns=0, payload=_PAYLOAD)


def _connected(server: Address) -> socket.socket:
    """A socket that is told at once where nothing listens; one that is not connected waits in vain (udp(7))."""
    made = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.connect(server)
    except OSError:
        made.close()
        raise
    return made


def exchange(record: Record, server: Address) -> Message | str:
    """An answer, or in a few words why there is none."""
    import dns.exception
    import dns.query
    import dns.rcode

    try:
        with _connected(server) as plain:
            answer, _ = dns.query.udp_with_fallback(
                _query(record), server[0], timeout=_PATIENCE, port=server[1], udp_sock=plain
            )
    except dns.exception.Timeout:
        return "no answer"
    except (dns.exception.DNSException, OSError) as error:
        return why(error)
    if answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return answer
    return dns.rcode.to_text(answer.rcode())


def addresses(server: Address) -> list[Address]:
    """The numeric addresses of a server; raises Unanswered where it has none."""
    try:
        found = socket.getaddrinfo(*server, type=socket.SOCK_DGRAM)
    except OSError:
        raise Unanswered(f"the nameserver {server[0]} has no address") from None
    return list(dict.fromkeys((str(address[0]), server[1]) for *_, address in found))


def addresses_by(resolver: Resolver, host: str) -> list[Address]:
    """The numeric addresses of a nameserver of a zone; none where it has none."""
    import dns.exception

    try:
        return [(address, PORT) for address in resolver.resolve_name(host, lifetime=LIFETIME).addresses()]
    except (dns.exception.DNSException, OSError):
        return []


def in_words(server: Address) -> str:
    """A server for people."""
    return server[0] if server[1] == PORT else f"{server[0]} port {server[1]}"


def why(error: Exception) -> str:
    """A few words for what a question came to."""
    import dns.exception
    import dns.resolver

    if isinstance(error, dns.exception.Timeout):
        return "no answer in time"
    if isinstance(error, dns.resolver.NoResolverConfiguration):
        return "there is no resolver in /etc/resolv.conf"
    if isinstance(error, dns.resolver.NoNameservers | dns.resolver.NoRootSOA):
        return "the resolver failed (SERVFAIL)"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
