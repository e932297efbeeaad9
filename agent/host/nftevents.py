"""What the kernel tells of changes to netfilter's rules: the multicast group of nftables (netlink(7)).

iptables of Debian speaks to nftables; the older iptables-legacy tells nobody.
"""

from __future__ import annotations

import contextlib
import socket

from agent.host.netns import Namespace

_NETLINK_NETFILTER = 12
_GROUP = 7  # NFNLGRP_NFTABLES
_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_BUFFER = 1 << 16


class RuleEvents:
    """A socket that becomes readable when any rule, chain, set or table changes."""

    def __init__(self, namespace: str | None = None) -> None:
        self._socket = Namespace(namespace).call(_subscribed)

    def fileno(self) -> int:
        """The file descriptor, for a selector."""
        return self._socket.fileno()

    def read(self) -> bool:
        """Take what waits; gives whether anything did. Events that were lost (ENOBUFS) are events too."""
        some = False
        while True:
            try:
                self._socket.recv(_BUFFER)
            except BlockingIOError:
                return some
            except OSError:
                some = True
            else:
                some = True

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._socket.close()


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
