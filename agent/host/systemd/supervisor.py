"""What systemd and its journal are told by a service that stays: that it is ready, that it lives, what it did.

Each is one datagram; a library for it would be a compiled dependency for a page of code.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Mapping

from agent.host.systemd.notify import notify

_JOURNAL = "/run/systemd/journal/socket"


def tell(*lines: str) -> None:
    """Tell systemd of this service's state (sd_notify(3)); nobody else hears it, and it is no error."""
    with contextlib.suppress(OSError):
        notify("\n".join(lines))


def tell_reloading() -> None:
    """The declarations are read again; READY=1 ends it."""
    tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def watchdog_period() -> float | None:
    """Seconds within which systemd wants to hear of this process, None where it does not (sd_watchdog_enabled(3))."""
    with contextlib.suppress(KeyError, ValueError):
        if int(os.environ.get("WATCHDOG_PID", os.getpid())) == os.getpid():
            return int(os.environ["WATCHDOG_USEC"]) / 1e6
    return None


class JournalLog:
    """Events for systemd's journal, with fields of their own (systemd.journal-fields(7))."""

    def __init__(self, path: str = _JOURNAL) -> None:
        self._path = path

    def send(self, message: str, priority: int, fields: Mapping[str, str]) -> bool:
        """Write one entry; gives whether the journal took it."""
        entries = {"MESSAGE": message, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "state-agent", **fields}
        data = b"".join(_field(name, value) for name, value in entries.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
            way.setblocking(False)
            way.sendto(data, self._path)
            return True
        return False


def _field(name: str, value: str) -> bytes:
    """A field in the journal's native protocol: what has line breaks goes with its length ahead."""
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"
