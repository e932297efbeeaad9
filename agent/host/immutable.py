"""The immutable flag of a folder (chattr(1), ioctl_iflags(2)): nobody can make anything in it, not even root."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from functools import cache
from pathlib import Path

from agent.host.paths import refused

_FLAG = 0x10
_LONG = struct.calcsize("l")
# _IOR('f', 1, long) and _IOW('f', 2, long); what is read and written there is an int all the same.
_GET = 2 << 30 | _LONG << 16 | ord("f") << 8 | 1
_SET = 1 << 30 | _LONG << 16 | ord("f") << 8 | 2
_CAP_LINUX_IMMUTABLE = 9
_UNSUPPORTED = (errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def is_immutable(fd: int) -> bool | None:
    """Whether the open folder has the flag; None where the file system has no such flag, or we may not set it."""
    flags = _flags(fd)
    if flags is None:
        return None
    return bool(flags & _FLAG) or (False if _permitted() else None)


def set_immutable(fd: int, path: str, wanted: bool) -> None:
    """Set the flag of the open folder `path`, or take it away; nothing where there is no such flag."""
    flags = _flags(fd)
    if flags is None or bool(flags & _FLAG) == wanted or not _permitted():
        return
    try:
        fcntl.ioctl(fd, _SET, struct.pack("i", flags | _FLAG if wanted else flags & ~_FLAG).ljust(_LONG, b"\0"))
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise refused(path, error) from None


def _flags(fd: int) -> int | None:
    try:
        answer = fcntl.ioctl(fd, _GET, bytes(_LONG))
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return None
        raise refused(os.readlink(f"/proc/self/fd/{fd}"), error) from None
    flags: int = struct.unpack_from("i", answer)[0]
    return flags


@cache
def _permitted() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_LINUX_IMMUTABLE & 1)
    return False
