"""One account's mailbox: looked into where it lies on the disk and over IMAP, and cleared of test messages."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from agent.host.run import run

_HEAD = 1 << 18


def stored(folder: str, message_id: str, since: float) -> str | None:
    """The file that holds a message, where it has arrived (a maildir has it in `new` or `cur`)."""
    wanted = message_id.encode().lower()
    for path in _recent(folder, since):
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:  # a mail program may have just moved it
            if wanted in header(file.read(_HEAD)).lower():
                return path
    return None


def _recent(folder: str, since: float) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        if os.path.basename(place) in ("new", "cur"):
            for name in names:
                path = os.path.join(place, name)
                with contextlib.suppress(FileNotFoundError):
                    if os.stat(path, follow_symlinks=False).st_mtime >= since - 2:
                        yield path


def header(message: bytes) -> bytes:
    """The header of a message."""
    return re.split(rb"\r?\n\r?\n", message, maxsplit=1)[0] + b"\n"


def field(message: bytes, name: str) -> str | None:
    """The value of a header field, unfolded; None where there is none."""
    found = re.search(rb"(?im)^" + re.escape(name.encode()) + rb":[ \t]*(.*(?:\r?\n[ \t].*)*)", header(message))
    return re.sub(r"\s+", " ", found[1].decode(errors="replace")).strip() if found else None


def over_imap(account: str, message_id: str) -> bool:
    """Whether an IMAP session of the account finds a message, without a password (doveadm-exec(1))."""
    commands = f'a EXAMINE INBOX\r\nb UID SEARCH HEADER Message-ID "{message_id}"\r\nc LOGOUT\r\n'
    said = run(["doveadm", "exec", "imap", "-u", account], stdin=commands, timeout=30, accept=None).stdout
    return re.search(r"(?m)^\* SEARCH \d+", said) is not None and "b OK" in said


def expunge(account: str, message_id: str) -> None:
    """Remove a message from all of an account's folders."""
    run(["doveadm", "expunge", "-u", account, "mailbox", "*", "HEADER", "Message-ID", message_id], timeout=60)


def newest(folder: str, count: int) -> list[str]:
    """The files of the newest messages in an inbox."""
    found = []
    for place in ("new", "cur"):
        try:
            with os.scandir(os.path.join(folder, place)) as entries:
                found += [(entry.stat().st_mtime, entry.path) for entry in entries if entry.is_file()]
        except FileNotFoundError:
            continue
    return [path for _, path in sorted(found, reverse=True)[:count]]
