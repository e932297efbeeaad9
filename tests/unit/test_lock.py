"""Who is told to hold the lock, while its next holder has not yet written its name."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.errors import LockHeld
from agent.host.lock import RESIDENT, exclusive


@contextmanager
def held(path: Path, text: str, seconds: float) -> Iterator[None]:
    """Another holder, of whom only this is written, for so long at most."""
    path.write_text(text)
    fd = os.open(path, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    ends = threading.Event()
    holder = threading.Thread(target=lambda: (ends.wait(seconds), os.close(fd)))
    holder.start()
    try:
        yield
    finally:
        ends.set()
        holder.join()


def dead() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize("text", ["", '{"pid": 1, "since"', '{"pid": "x", "since": 1, "purpose": "y"}', "KILLED"])
def test_a_holder_that_is_just_starting_may_be_the_resident_agent_and_gone_at_once(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lock"
    stale = json.dumps({"pid": dead(), "since": time.time(), "purpose": "agent apply"})
    with held(path, stale if text == "KILLED" else text, 0.1), exclusive(path, "agent apply"):
        pass


def test_one_that_stays_without_a_name_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        held(path, "", 60),
        pytest.raises(LockHeld, match="just starting"),
        exclusive(path, "agent apply"),
    ):
        pass


def test_the_resident_agent_is_waited_for_and_does_not_wait_itself(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    text = json.dumps({"pid": os.getpid(), "since": time.time(), "purpose": RESIDENT})
    with held(path, text, 0.7), exclusive(path, "agent apply"):
        pass
    text = json.dumps({"pid": os.getpid(), "since": time.time(), "purpose": "agent apply"})
    with held(path, text, 5), pytest.raises(LockHeld, match="agent apply"), exclusive(path, RESIDENT):
        pass


def test_nobody_is_named_once_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with exclusive(path, "agent apply"):
        assert json.loads(path.read_text())["purpose"] == "agent apply"
    assert path.read_text() == ""
