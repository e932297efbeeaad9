"""One apply at a time: a lock that the kernel frees however its holder ends."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from agent.errors import LockHeld, ResourceError

RESIDENT = "agent watch"
"""The purpose for which the resident agent holds it: for moments only, so that everybody waits for those."""
_POLL = 0.2
_MOMENT = 0.01
_SOON = 50


@contextmanager
def exclusive(
    path: Path,
    purpose: str,
    *,
    wait: bool = False,
    progress: Callable[[str], None] = lambda _text: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Hold the lock at `path` (flock(2)); its file says who holds it, since when and for what.

    Raises LockHeld where another process holds it, unless `wait`; with that, only once `stopped` says so.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        hint = "run it with sudo" if isinstance(error, PermissionError) else ""
        raise ResourceError(f"the lock {path} cannot be taken: {error.strerror}", hint=hint) from None
    try:
        _take(fd, purpose, wait, progress, stopped)
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps({"pid": os.getpid(), "since": time.time(), "purpose": purpose}).encode(), 0)
        except OSError as error:
            raise ResourceError(f"the lock {path} cannot be written: {error.strerror}") from None
        yield
    finally:
        os.close(fd)


def _take(fd: int, purpose: str, wait: bool, progress: Callable[[str], None], stopped: Callable[[], bool]) -> None:
    told = False
    resident_waits = _SOON
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait and (purpose == RESIDENT or not _is_for(fd, RESIDENT)):
                twice = purpose == RESIDENT and _is_for(fd, RESIDENT)
                hint = "agent status shows what it does" if twice else "wait for it to end, or use --wait"
                raise LockHeld(f"another run holds the lock: {_holder(fd)}", hint=hint) from None
            if stopped():
                raise LockHeld(f"interrupted while waiting for {_holder(fd)}; nothing was touched") from None
            if resident_waits > 0 and _is_for(fd, RESIDENT):
                resident_waits -= 1
                time.sleep(_MOMENT)
                continue
            if not told:
                progress(f"waiting for {_holder(fd)}")
                told = True
            time.sleep(_POLL)
        else:
            return


def _is_for(fd: int, purpose: str) -> bool:
    try:
        return bool(json.loads(os.pread(fd, 4096, 0))["purpose"] == purpose)
    except (ValueError, KeyError, TypeError, OSError):
        return False


def _holder(fd: int) -> str:
    try:
        kept = json.loads(os.pread(fd, 4096, 0))
        since = datetime.fromtimestamp(kept["since"]).astimezone().strftime("%H:%M:%S")
        return f"{kept['purpose']} (pid {kept['pid']}, since {since})"
    except (ValueError, KeyError, TypeError, OSError):
        return "a process that is just starting"
