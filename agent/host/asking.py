"""Questions to the resident agent over a unix socket that only root can reach: a JSON line, answered by one or more."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

_LIMIT = 5.0
_PATIENCE = 1.0
"""Seconds for which an answer is waited for: while it changes something, the agent gives none."""
_LONGEST_QUESTION = 4096
_AT_ONCE = 1000
_CREDENTIALS = struct.Struct("3i")

Answer = Callable[[Mapping[str, Any]], tuple[Mapping[str, Any], Iterable[str]]]
"""A document, and rows that follow it as a JSON list, each given as its text."""


class Answering:
    """The agent's side: `fileno` is readable when somebody asks."""

    def __init__(self, path: Path, answer: Answer) -> None:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._path, self._answer = path, answer
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()  # of an agent that was killed; who holds the lock of residence is alone
        old = os.umask(0o177)
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(old)
        self._socket.listen(16)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """The file descriptor, for a selector."""
        return self._socket.fileno()

    def serve(self) -> None:
        """Answer whoever asks now. Nobody can hold the agent up for longer than it takes them to ask."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            connection, _ = self._socket.accept()
            with connection:
                connection.settimeout(_LIMIT / 10)
                if _asker(connection) in (0, os.geteuid()):
                    question = json.loads(_line(connection))
                    if isinstance(question, dict):
                        _send(connection, *self._answer(question))

    def close(self) -> None:
        """Answer no more."""
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink()


def _send(connection: socket.socket, document: Mapping[str, Any], rows: Iterable[str]) -> None:
    """Send rows by the thousand: all in one piece would take several times their size, and the other side would wait.

    Raises TimeoutError where the other side is too slow.
    """
    deadline = time.monotonic() + _LIMIT
    text, left = f"{json.dumps(document, default=str)}\n[", iter(rows)
    between = ""
    while True:
        some = list(islice(left, _AT_ONCE))
        text += between * bool(some) + ",\n  ".join(some) + "]\n" * (len(some) < _AT_ONCE)
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        connection.sendall(text.encode())
        if len(some) < _AT_ONCE:
            return
        text, between = "", ",\n  "


def ask(path: Path, question: Mapping[str, Any]) -> tuple[dict[str, Any], bytes] | None:
    """The document and the text of the rows that the resident agent answers with; None where none does in time."""
    with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as way:
        way.settimeout(_PATIENCE)
        way.connect(str(path))
        way.sendall(json.dumps(question).encode() + b"\n")
        with way.makefile("rb") as lines:
            found = json.loads(lines.readline())
            rows = lines.read().rstrip()
            return (found, rows) if isinstance(found, dict) and rows.endswith(b"]") else None
    return None


def _line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n") and len(data) < _LONGEST_QUESTION:
        part = connection.recv(_LONGEST_QUESTION)
        if not part:
            break
        data += part
    return data


def _asker(connection: socket.socket) -> int:
    """The user at the other end (SO_PEERCRED in unix(7))."""
    given = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(given)[1]
    return uid
