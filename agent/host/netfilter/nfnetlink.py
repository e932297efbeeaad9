"""What nftables itself is asked, as iptables does not tell it: which tables hold sets, and whether anything changed.

iptables makes no sets, and shows rules that use them wrongly or not.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

# linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
_NETFILTER = 12
_REQUEST_DUMP = 0x301
_DONE = 3
_ERROR = 2
_NEW_SET = 10 << 8 | 9
_NEW_GENERATION = 10 << 8 | 15
_GET_SET = 10 << 8 | 10
_GET_GENERATION = 10 << 8 | 16
_REQUEST = 1
_SET_TABLE = 1
_GENERATION_ID = 1
_FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")


def tables_with_sets(family: str) -> frozenset[str]:
    """The tables of a family that hold sets or maps of nftables, in the namespace of the calling thread."""
    found: set[str] = set()
    with suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER) as link:
        link.settimeout(10)
        generic = struct.pack("=BBH", _FAMILIES[family], 0, 0)
        link.send(_HEADER.pack(_HEADER.size + len(generic), _GET_SET, _REQUEST_DUMP, 1, 0) + generic)
        while True:
            for kind, body in _messages(link.recv(1 << 16)):
                if kind in (_DONE, _ERROR):
                    return frozenset(found)
                if kind == _NEW_SET:
                    found.add(_attribute(body[len(generic) :], _SET_TABLE).rstrip(b"\0").decode())
    return frozenset(found)


def generation() -> int | None:
    """The number of the rules as they are now, in the namespace of the calling thread: every commit counts it up."""
    with suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER) as link:
        link.settimeout(10)
        generic = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)
        link.send(_HEADER.pack(_HEADER.size + len(generic), _GET_GENERATION, _REQUEST, 1, 0) + generic)
        for kind, body in _messages(link.recv(1 << 16)):
            if kind == _NEW_GENERATION:
                found = _attribute(body[len(generic) :], _GENERATION_ID)
                return int.from_bytes(found) if found else None
    return None


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def _attribute(attributes: bytes, wanted: int) -> bytes:
    """The value of an attribute; nothing where it is not there."""
    while len(attributes) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(attributes)
        if kind == wanted:
            return attributes[_ATTRIBUTE.size : length]
        attributes = attributes[max(_ATTRIBUTE.size, (length + 3) & ~3) :]
    return b""
