"""Work in a child process: what it imports and allocates is gone with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from agent.errors import ResourceError


def in_child(work: Callable[[], bytes]) -> bytes:
    """What `work` gives, called in a copy of this process; only where no other thread runs (fork(2)).

    Raises ResourceError where the child ends without an answer.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _answer(reader, writer, work)
    os.close(writer)
    with open(reader, "rb") as pipe:
        data = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise ResourceError(f"the process that reads the declarations ended with status {status}")
    return data


def _answer(reader: int, writer: int, work: Callable[[], bytes]) -> None:
    """In the child. Nothing of the parent's may run on: neither its signals' handlers nor its clean-up at exit."""
    status = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.close(reader)
        with open(writer, "wb") as pipe:
            pipe.write(work())
        status = 0
    finally:
        os._exit(status)
