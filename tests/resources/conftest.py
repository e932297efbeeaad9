"""Each kind against the real program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.host import Host
from agent.resource import Change, Resource, differences

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
