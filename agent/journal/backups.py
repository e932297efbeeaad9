"""Backups: the contents that the agent replaced, each kept once under its digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path

from agent.errors import JournalError


class Backups:
    """A root-only folder of contents."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make_folder(self) -> None:
        """Make the folder; raises JournalError where that cannot be."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise JournalError(f"the backups {self._folder} cannot be made: {error.strerror}") from None

    def keep(self, content: bytes) -> str:
        """Keep a content, on the disk when this returns; gives its name."""
        name = hashlib.blake2b(content, digest_size=32).hexdigest()
        path = self._folder / name
        try:
            if not path.exists():
                self._write(path, content)
        except OSError as error:
            raise JournalError(f"the backup {path} cannot be written: {error.strerror}") from None
        return name

    def _write(self, path: Path, content: bytes) -> None:
        temporary = self._folder / "new"
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
        temporary.replace(path)
        folder = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def content(self, name: str) -> bytes:
        """A content that was kept. Raises OSError where it is gone."""
        return (self._folder / name).read_bytes()

    def drop_all_but(self, names: Collection[str]) -> None:
        """Remove the contents that nothing refers to any more."""
        for path in self._folder.iterdir():
            if path.name not in names:
                path.unlink(missing_ok=True)
