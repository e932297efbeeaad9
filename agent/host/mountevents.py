"""What changes among the mounts, and which daemons of gocryptfs die (proc_pid_mountinfo(5), pidfd_open(2))."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from agent.host.gocryptfs import daemon_of
from agent.host.mounts import Mounts, real

_MOUNTINFO = "/proc/self/mountinfo"


class MountEvents:
    """A file that polls as exceptional (POLLPRI) when anything is mounted or unmounted."""

    def __init__(self) -> None:
        self._fd = os.open(_MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)
        self._known = self._mounts()

    def fileno(self) -> int:
        """The file descriptor, for a selector."""
        return self._fd

    def read(self) -> set[str]:
        """The mount points at which something changed since the last time."""
        before, self._known = self._known, self._mounts()
        return {path for path, _ in before.symmetric_difference(self._known)}

    def _mounts(self) -> frozenset[tuple[str, bytes]]:
        # Read through the polled descriptor: that is what takes the news back. A line holds the mount's number.
        os.lseek(self._fd, 0, os.SEEK_SET)
        data = b""
        while part := os.read(self._fd, 1 << 16):
            data += part
        lines = data.splitlines()
        return frozenset(zip((mount.path for mount in Mounts.parsed(lines)), lines, strict=True))

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            os.close(self._fd)


def open_daemon(path: str) -> int | None:
    """A descriptor that becomes readable when the daemon that serves this mount of gocryptfs ends; None without one."""
    pid = daemon_of(real(path))
    if pid is None:
        return None
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return None
    # The number may have gone to another process between the two.
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/comm").read_bytes() == b"gocryptfs\n":
            return fd
    os.close(fd)
    return None
