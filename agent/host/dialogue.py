"""What a running program is given and says, from its start to its end, without a thread."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from typing import IO, cast

_GRACE = 2.0
"""Seconds for which the outputs of a program that ended are still read: a daemon that it left may hold them open."""
_PIECE = 1 << 16


class Dialogue:
    """The pipes of one process."""

    def __init__(self, process: subprocess.Popen[bytes], given: bytes) -> None:
        self._process = process
        self._given = memoryview(given)
        self._said: dict[IO[bytes], list[bytes]] = {process.stdout: [], process.stderr: []}  # type: ignore[dict-item]
        self._selector = selectors.DefaultSelector()

    def held(self, timeout: float) -> tuple[bytes, bytes]:
        """Both outputs, once it ended. Raises subprocess.TimeoutExpired where that takes longer; then it still runs."""
        ended = os.pidfd_open(self._process.pid)
        try:
            return self._held(ended, timeout)
        finally:
            os.close(ended)
            self._selector.close()
            for pipe in (self._process.stdin, *self._said):
                if pipe is not None:
                    pipe.close()

    def _held(self, ended: int, timeout: float) -> tuple[bytes, bytes]:
        deadline = time.monotonic() + timeout
        self._selector.register(ended, selectors.EVENT_READ)
        for pipe in self._said:
            self._selector.register(pipe, selectors.EVENT_READ)
        self._begin_to_give()
        while self._selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                if key.fileobj == ended:
                    self._selector.unregister(ended)
                    deadline = time.monotonic() + _GRACE
                elif key.fileobj is self._process.stdin:
                    self._give()
                else:
                    self._take(cast("IO[bytes]", key.fileobj))
        if self._process.poll() is None:
            raise subprocess.TimeoutExpired(self._process.args, timeout)
        out, said = (b"".join(parts) for parts in self._said.values())
        return out, said

    def _begin_to_give(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        os.set_blocking(stdin.fileno(), False)
        self._selector.register(stdin, selectors.EVENT_WRITE)

    def _give(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            self._given = self._given[os.write(stdin.fileno(), self._given[:_PIECE]) :]
        except BrokenPipeError:  # it does not want to know more
            self._given = self._given[:0]
        if not self._given:
            self._selector.unregister(stdin)
            stdin.close()

    def _take(self, pipe: IO[bytes]) -> None:
        piece = os.read(pipe.fileno(), _PIECE)
        self._said[pipe].append(piece)
        if not piece:
            self._selector.unregister(pipe)
