"""What the kernel tells of changes to netfilter's rules: the multicast group of nftables (netlink(7)).

Each commit ends with a notice of the new generation, whose header has the port of the socket that asked for it. A
program's first socket has its process number as port (netlink(7)), so it can be told who committed.
iptables of Debian speaks to nftables; the older iptables-legacy tells nobody.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator

from agent.host.netns import Namespace

_NETLINK_NETFILTER = 12
_GROUP = 7  # NFNLGRP_NFTABLES
_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_BUFFER = 1 << 16
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_NEW_GENERATION = 10 << 8 | 15
UNKNOWN = 0
"""The port of one who cannot be told, which is also the kernel's own."""


class RuleEvents:
    """A socket that becomes readable when any rule, chain, set or table changes."""

    def __init__(self, namespace: str | None = None) -> None:
        self._socket = Namespace(namespace).call(_subscribed)

    def fileno(self) -> int:
        """The file descriptor, for a selector."""
        return self._socket.fileno()

    def read(self) -> set[int]:
        """Take what waits; gives the ports of those who committed. Where notices were lost, `UNKNOWN` is among them."""
        found: set[int] = set()
        while True:
            try:
                found.update(_committers(self._socket.recv(_BUFFER)))
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found.add(UNKNOWN)

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._socket.close()


def _committers(data: bytes) -> Iterator[int]:
    while len(data) >= _HEADER.size:
        length, kind, _, _, port = _HEADER.unpack_from(data)
        if kind == _NEW_GENERATION:
            yield port
        data = data[max(_HEADER.size, (length + 3) & ~3) :]


def _subscribed() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    try:
        made.bind((0, 0))
        made.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made
