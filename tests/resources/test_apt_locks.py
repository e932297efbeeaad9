"""Waiting for the locks of apt and dpkg, on locks of the test's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import ResourceError
from agent.host.apt import locks
from agent.host.lock import exclusive

HOLDER = """
import fcntl, sys
with open(sys.argv[1], "a") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody else holds dpkg's lock."""
    (tmp_path / "dpkg").mkdir()
    path = str(tmp_path / "dpkg" / "lock-frontend")
    monkeypatch.setattr(locks, "LOCKS", (path,))
    command = [sys.executable, "-c", HOLDER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.communicate("")


@pytest.mark.usefixtures("taken")
def test_a_run_gives_up_where_nobody_else_waits_for_it(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lock", "agent apply"), pytest.raises(ResourceError, match="gave up after waiting"):
        locks.wait_for_locks(lambda _text: None, 0.5)


@pytest.mark.usefixtures("taken")
def test_a_run_does_not_wait_for_who_waits_for_it(tmp_path: Path) -> None:
    """As the scripts of the agent's own package do while it is upgraded: each would wait for the other."""
    with exclusive(tmp_path / "lock", "agent apply"):
        script = subprocess.Popen(["flock", str(tmp_path / "lock"), "true"])
        with pytest.raises(ResourceError, match="state-agent is being replaced"):
            locks.wait_for_locks(lambda _text: None, 20)
    assert script.wait(10) == 0
    assert not locks.is_waited_for()
