"""Traces of a message in clear: in what the disk really holds, and in the journal."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator, Sequence

from agent.host.run import observe
from agent.mail.doctor.site import MailHost

_PLACES = ("/var/lib", "/var/log", "/var/mail", "/var/spool", "/var/tmp", "/tmp")
LIMIT = 120.0
"""Seconds for one search."""
UNSEARCHED = "files that there was no time for"
_CHUNK = 1 << 20


def traces(mail: MailHost, markers: Sequence[str]) -> list[str]:
    """Files that hold one of the markers, and the journal where it does; only what changed since the run began.

    UNSEARCHED is among them where not all could be looked at.
    """
    if not mail.has("mailstore") or not markers:
        return []
    mail.say("looking for the messages in clear")
    wanted = [marker.encode() for marker in markers]
    deadline = time.monotonic() + LIMIT
    found = []
    for path in changed([str(mail.get("mailstore", "cipher")), *_PLACES], mail.started):
        if time.monotonic() > deadline:
            found.append(UNSEARCHED)
            break
        if _holds(path, wanted):
            found.append(path)
    grep = "|".join(markers)
    words = ["--quiet", "--no-pager", "--output=cat", "--lines=1", f"--since=@{int(mail.started) - 1}"]
    if observe(["journalctl", *words, f"--grep={grep}"], timeout=60).stdout.strip():
        found.append("the journal")
    return found


def changed(folders: Sequence[str], since: float) -> Iterator[str]:
    """Regular files below these folders that were written since then; what is mounted below is not entered."""
    for folder in folders:
        with contextlib.suppress(OSError):
            device = os.stat(folder).st_dev
            for place, below, names in os.walk(folder):
                below[:] = [name for name in below if _device(os.path.join(place, name)) == device]
                for name in names:
                    with contextlib.suppress(OSError):
                        status = os.lstat(os.path.join(place, name))
                        if stat.S_ISREG(status.st_mode) and status.st_mtime >= since - 2:
                            yield os.path.join(place, name)


def _device(path: str) -> int:
    try:
        return os.lstat(path).st_dev
    except OSError:
        return -1


def _holds(path: str, wanted: Sequence[bytes]) -> bool:
    longest = max(map(len, wanted))
    kept = b""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        while data := file.read(_CHUNK):
            if any(marker in kept + data for marker in wanted):
                return True
            kept = data[-longest:]
    return False
