"""One apply at a time: a lock that the kernel frees however its holder ends."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

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
        try:
            yield
        finally:
            with suppress(OSError):  # the next holder is not to be taken for this one until its own name is there
                os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def _take(fd: int, purpose: str, wait: bool, progress: Callable[[str], None], stopped: Callable[[], bool]) -> None:
    told = False
    moments = _SOON
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(fd)
            resident = holder is not None and holder["purpose"] == RESIDENT
            if moments > 0 and (holder is None or (resident and purpose != RESIDENT)) and not stopped():
                moments -= 1
                time.sleep(_MOMENT)
                continue
            if not wait and (purpose == RESIDENT or not resident):
                twice = purpose == RESIDENT and resident
                hint = "agent status shows what it does" if twice else "wait for it to end, or use --wait"
                raise LockHeld(f"another run holds the lock: {_told(holder)}", hint=hint) from None
            if stopped():
                raise LockHeld(f"interrupted while waiting for {_told(holder)}; nothing was touched") from None
            if not told:
                progress(f"waiting for {_told(holder)}")
                told = True
            time.sleep(_POLL)
        else:
            return


def _holder(fd: int) -> Mapping[str, Any] | None:
    """Who holds it; None while that is not written yet: what stands there may be of one who was killed."""
    try:
        kept: dict[str, Any] = json.loads(os.pread(fd, 4096, 0))
        datetime.fromtimestamp(kept["since"])
        purpose, pid = str(kept["purpose"]), int(kept["pid"])
        with suppress(PermissionError):  # it runs, as another user
            os.kill(pid, 0)
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return None
    return {**kept, "purpose": purpose, "pid": pid}


def _told(holder: Mapping[str, Any] | None) -> str:
    if holder is None:
        return "a process that is just starting"
    since = datetime.fromtimestamp(holder["since"]).astimezone().strftime("%H:%M:%S")
    return f"{holder['purpose']} (pid {holder['pid']}, since {since})"
