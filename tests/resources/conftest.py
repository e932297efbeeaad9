"""Each kind against the real program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.host import Host
from agent.resource import Change, Resource, differences

ROOT = Path(__file__).parents[2]
Agent = Callable[..., tuple[int, dict[str, Any]]]
Converge = Callable[[Resource], Change | None]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host whose own folders are throw-away ones."""
    return Host(run_dir=str(tmp_path / "run"), state_dir=str(tmp_path / "state"))


@pytest.fixture
def converge(host: Host) -> Converge:
    """Bring one resource to its desired state as the engine does: read, apply, read again."""

    def bring(resource: Resource) -> Change | None:
        change = differences(resource.read(host), resource.desired(host))
        if change is not None:
            resource.apply(host, change)
            host.forget()
            assert differences(resource.read(host), resource.desired(host)) is None, "not converged"
        return change

    return bring


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """Run `agent` on a site of one file; gives the exit status and its document."""

    def run(site: str, *words: str) -> tuple[int, dict[str, Any]]:
        (tmp_path / "site.toml").write_text(site)
        command = [sys.executable, "-m", "agent", *words, "--json", "--site", str(tmp_path / "site.toml")]
        environ = os.environ | {"AGENT_STATE_DIR": str(tmp_path / "state"), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
        assert done.stdout, done.stderr
        document = json.loads(done.stdout)
        return done.returncode, {row["id"]: row for row in document.pop("resources", ())} | document

    return run
