"""What stands in a folder and was declared by nobody: found and removed without ever leaving that folder."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from agent.errors import ResourceError
from agent.host.paths import DIRECTORY, closing, open_parent, refused

_NO_FOLLOW = DIRECTORY | os.O_NOFOLLOW
_DEEPEST = 100


@dataclass(frozen=True)
class Purge:
    """What may stay in the folder `root`.

    `declared` are absolute paths: they and what stands above them stay. One that ends with `/` is a folder that
    another resource purges, and is not looked into. `keep` are globs on names relative to `root`: `*` matches `/` too,
    and a folder that is kept keeps all it holds. Mount points stay, and are not looked into.
    """

    root: str
    declared: Collection[str]
    keep: Sequence[str]
    links: Collection[str] = ()

    def unmanaged(self) -> list[str]:
        r"""Names relative to `root` of what may not stay, each folder with a `/` at its end and before what it holds.

        Bytes that are not UTF-8 stand as escapes such as `\udcff`, so that every name can be printed.
        """
        return [_printable(name) for name in self._entries()]

    def remove(self, names: Collection[str]) -> None:
        """Remove those of the `names`, as `unmanaged` gave them, that may still not stay."""
        for name in reversed(self._entries()):
            if _printable(name) in names:
                self._remove(name)

    def _remove(self, name: str) -> None:
        path = f"{self.root}/{name.removesuffix('/')}"
        try:
            folder = open_parent(path, self.links)
            with closing(folder), contextlib.suppress(FileNotFoundError):
                if name.endswith("/"):
                    os.rmdir(os.path.basename(path), dir_fd=folder)
                else:
                    os.unlink(os.path.basename(path), dir_fd=folder)
        except OSError as error:
            raise refused(_printable(path), error) from None

    def _entries(self) -> list[str]:
        try:
            with (
                closing(open_parent(self.root, self.links)) as parent,
                closing(os.open(os.path.basename(self.root), _NO_FOLLOW, dir_fd=parent)) as fd,
            ):
                return self._walk(fd, "")[0]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise refused(self.root, error) from None

    def _walk(self, fd: int, above: str) -> tuple[list[str], bool]:
        """The unmanaged entries of one open folder, and whether it holds anything that stays."""
        if above.count("/") > _DEEPEST:
            raise ResourceError(f"{self.root} holds folders more than {_DEEPEST} deep", hint="remove them by hand")
        found: list[str] = []
        stays = False
        device = os.fstat(fd).st_dev
        for entry in sorted(os.listdir(fd)):
            name = above + entry
            if self._left_alone(name):
                stays = True
                continue
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(entry, dir_fd=fd, follow_symlinks=False)
                needed = f"{self.root}/{name}" in self._declared or status.st_dev != device
                if stat.S_ISDIR(status.st_mode) and status.st_dev == device:
                    with closing(os.open(entry, _NO_FOLLOW, dir_fd=fd)) as deeper:
                        below, inner = self._walk(deeper, name + "/")
                    needed = needed or inner
                    found += below if needed else [name + "/", *below]
                elif not needed:
                    found.append(name)
                stays = stays or needed
        return found, stays

    def _left_alone(self, name: str) -> bool:
        return (
            f"{self.root}/{name}/" in self._declared
            or f"{self._real_root}/{name}" in self._mounts
            or any(fnmatchcase(name, glob.rstrip("/")) for glob in self.keep)
        )

    @cached_property
    def _declared(self) -> frozenset[str]:
        return frozenset(self.declared)

    @cached_property
    def _real_root(self) -> str:
        return os.path.realpath(self.root)

    @cached_property
    def _mounts(self) -> frozenset[str]:
        # A bind mount can have the device number of the folder it stands in (proc_pid_mountinfo(5)).
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
        points = (re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), line.split()[4]) for line in lines)
        return frozenset(os.fsdecode(point) for point in points)


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
