"""Running programs: what they are given, what they say, and what they leave behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.errors import CommandFailed
from agent.host.run import Result, run

MODES: dict[str, Callable[..., Result]] = {
    "whole": run,
    "by line": lambda command, **more: run(command, on_line=lambda _line: None, **more),
}
Runs = Callable[..., Any]


@pytest.fixture(params=MODES)
def runs(request: pytest.FixtureRequest) -> Runs:
    return MODES[request.param]


def test_much_is_given_and_said_at_once(runs: Runs) -> None:
    text = "line\n" * 200_000
    done = runs(["sh", "-c", "cat; echo trouble >&2; exit 3"], stdin=text, accept=None)
    assert (done.status, done.stdout, done.stderr) == (3, text, "trouble\n")


def test_what_nobody_reads_is_no_error(runs: Runs) -> None:
    assert runs(["true"], stdin="x" * 1_000_000).status == 0


def test_a_daemon_that_keeps_the_output_is_not_waited_for(runs: Runs, tmp_path: Path) -> None:
    started = time.monotonic()
    assert runs(["sh", "-c", f"sleep 20 & echo $! > {tmp_path}/pid; echo said"]).stdout == "said\n"
    assert time.monotonic() - started < 15
    os.kill(int((tmp_path / "pid").read_text()), 9)


def test_time_out_ends_all_that_was_started(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="did not end within"):
        runs(["sh", "-c", f"sleep 20 & echo $! > {tmp_path}/pid; sleep 20"], timeout=0.5)
    pid = (tmp_path / "pid").read_text().strip()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_cannot_be_started_is_told(runs: Runs, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELFnonsense")
    program.chmod(0o755)
    with pytest.raises(CommandFailed, match="cannot be started"):
        runs([str(program)])
