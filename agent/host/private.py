"""Small files of the agent's own that it believes later: written in one instant, and by nobody else."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MOST = 100
"""Derived values that are kept; a host has a handful."""


def own_file(path: Path) -> bytes:
    """The content of a regular file that belongs to this user and that nobody else can read or write; else nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        os.close(fd)
        return b""
    with open(fd, "rb") as file:
        return file.read()


def keep(path: Path, content: bytes) -> None:
    """Write such a file where that is possible; a host without it is only slower."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for stale in path.parent.glob(f"{path.name}.*"):
            stale.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


class Derived:
    """What follows from the content of files alone, kept from run to run: to work it out takes a large library.

    A file for each in a folder of their own, by the digest of the content; they hold nothing secret and may be deleted.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder, "derived")

    def of(self, what: str, content: bytes, work: Callable[[], Any]) -> Any:
        """What `work` makes of a content: something that JSON can hold. Raises what it raises.

        `what` names the work; where what it makes becomes another, so does the name.
        """
        path = self._folder / f"{what}-{hashlib.blake2b(content, digest_size=24).hexdigest()}"
        with contextlib.suppress(ValueError):
            return json.loads(own_file(path))
        value = work()
        self._make_room()
        keep(path, json.dumps(value).encode())
        return value

    def _make_room(self) -> None:
        with contextlib.suppress(OSError):
            kept = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)
            for path in kept[: max(0, len(kept) - _MOST)]:
                path.unlink(missing_ok=True)
