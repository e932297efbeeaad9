"""Runs in the world: decrypts each message of a maildir with gpg; the original of bob+N@… is kept as N in a folder."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def original(stored: bytes) -> bytes | None:
    """What was sent, by gpg and the first line that it decrypts; None where it was sent to somebody else."""
    start, last = stored.index(b"-----BEGIN PGP MESSAGE"), stored.index(b"-----END PGP MESSAGE-----")
    command = ["gpg", "--batch", "--quiet", "--decrypt"]
    done = subprocess.run(command, input=stored[start : last + 26], capture_output=True, check=False)
    if done.returncode:
        return None
    found = re.match(rb"Sealed-Original: (\d+) (\d+)\r?\n", done.stdout)
    assert found, done.stdout[:200]
    return done.stdout[int(found[1]) : len(done.stdout) - int(found[2])]


def keep(path: Path, folder: Path) -> None:
    """Open one, and keep it under the name that the envelope has."""
    stored = path.read_bytes()
    name = re.search(rb"^Return-Path: <bob\+(\d+)@", stored, re.MULTILINE)
    if name and (opened := original(stored)) is not None:
        with (folder / name[1].decode()).open("xb") as file:  # twice would be wrong
            file.write(opened)


def main() -> None:
    """Open all of a maildir."""
    maildir, folder = map(Path, sys.argv[1:])
    folder.mkdir()
    paths = [path for part in ("new", "cur") for path in (maildir / part).iterdir()]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda path: keep(path, folder), paths))


if __name__ == "__main__":
    main()
