"""Validation of a file's new content by the program that will read it, before it replaces the old."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from agent.errors import CommandFailed, ResourceError
from agent.host.run import run

_BESIDE_LIMIT = 1 << 20


def staged(run_dir: str, path: str, content: bytes, mode: str, command: Sequence[str], *, quiet: bool) -> None:
    """Run `command` on a copy of the new content; raises ResourceError where it does not accept it.

    `{file}` in the command is the copy, under the file's own name; `{dir}` its folder, in which the other files
    of the real folder stand beside it (`postfix -c {dir} check` wants main.cf and master.cf together).
    """
    parent = os.path.join(run_dir, "stage")
    os.makedirs(parent, mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        if any("{dir}" in word for word in command):
            _copy_beside(Path(path).parent, Path(folder))
        copy = Path(folder, os.path.basename(path))
        copy.unlink(missing_ok=True)
        fd = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
        copy.chmod(int(mode, 8))
        words = [word.replace("{file}", str(copy)).replace("{dir}", folder) for word in command]
        try:
            run(words, quiet=quiet)
        except CommandFailed as error:
            raise ResourceError(
                "the new content is not valid; the old one stays",
                detail=str(error).replace(folder, str(Path(path).parent)),
            ) from None


def _copy_beside(source: Path, folder: Path) -> None:
    for entry in os.scandir(source) if source.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # others may remove theirs meanwhile
            if entry.is_file(follow_symlinks=True) and entry.stat().st_size <= _BESIDE_LIMIT:
                shutil.copy2(entry.path, folder / entry.name)
