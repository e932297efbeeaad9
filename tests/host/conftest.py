"""What the host tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from installed import TOOL, Installed, machine


@pytest.fixture(scope="session")
def new_host() -> Iterator[Callable[[str], Installed]]:
    """Boot a host with state-agent in it; all of them go when the session ends."""
    names = []

    def boot(label: str) -> Installed:
        names.append(f"{label}-{os.getpid()}")
        return Installed(names[-1])

    yield boot
    if names:
        machine(TOOL, "down", *names)
