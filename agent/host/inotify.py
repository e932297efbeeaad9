"""One inotify instance for all folders that are watched (inotify(7)), through watchdog's bindings of it.

watchdog's own observers are not used: before 7.0 each watch takes an instance of its own (128 for a user) and two
threads, they hold a rename out of the tree back for half a second, and they drop a queue overflow silently
(6.0). The bindings beneath are the same in 6.0 and 7.1. One file descriptor goes into the agent's own loop, without
threads, and what the kernel says is seen as it says it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agent.errors import ResourceError

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x1000000
IN_MASK_ADD = 0x20000000
IN_ISDIR = 0x40000000

GONE = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED
"""The watched folder itself is no longer what stands at its path."""
APPEARS = IN_CREATE | IN_MOVED_TO
CONTENT = IN_MODIFY | IN_ATTRIB | IN_MOVED_FROM | IN_DELETE | APPEARS
"""Everything that can come of a name in a folder. Not what reading raises, which would wake the reader; nor the end of
writing: what was written was told of as it was, and gpg opens for writing what it only reads."""

_HEAD = struct.Struct("iIII")
_BUFFER = 1 << 18


@dataclass(frozen=True, slots=True)
class FolderEvent:
    """Something that came of a `name` in the folder with the watch number `watch` (empty: of the folder itself)."""

    watch: int
    mask: int
    name: str


class Inotify:
    """An inotify instance: `fileno` is readable when there are events."""

    def __init__(self) -> None:
        from watchdog.observers import inotify_c

        self._add: Any = inotify_c.inotify_add_watch
        self._remove: Any = inotify_c.inotify_rm_watch
        self._fd: int = inotify_c.inotify_init()
        if self._fd < 0:
            raise _refused("this host gives no inotify instance", "fs.inotify.max_user_instances")
        os.set_blocking(self._fd, False)
        os.set_inheritable(self._fd, False)

    def fileno(self) -> int:
        """The file descriptor, for a selector."""
        return self._fd

    def add(self, folder: str, mask: int) -> int | None:
        """Watch a folder, also for what it is already watched for; gives its number, None where it is no folder.

        Two paths to one folder have the same number. Raises ResourceError where the kernel's limit is reached.
        """
        number: int = self._add(self._fd, os.fsencode(folder), mask | IN_ONLYDIR | IN_MASK_ADD)
        if number >= 0:
            return number
        code = ctypes.get_errno()
        if code in (errno.ENOSPC, errno.ENOMEM):
            raise _refused("no more folders can be watched", "fs.inotify.max_user_watches")
        return None

    def remove(self, number: int) -> None:
        """Watch a folder no longer; it is no error where it is gone."""
        self._remove(self._fd, number)

    def read(self) -> Iterator[FolderEvent]:
        """All events that wait, without waiting for any."""
        while True:
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                return
            yield from _parsed(data)

    def close(self) -> None:
        """Watch nothing any more."""
        os.close(self._fd)


def _parsed(data: bytes) -> Iterator[FolderEvent]:
    at = 0
    while at < len(data):
        watch, mask, _, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        yield FolderEvent(watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0")))
        at += length


def _refused(what: str, limit: str) -> ResourceError:
    code = ctypes.get_errno()
    return ResourceError(f"{what}: {os.strerror(code)}", hint=f"raise it with sysctl: {limit}")
