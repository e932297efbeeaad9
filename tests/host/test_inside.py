"""Tests that run inside a host: those that change the system they run on, and all others with Debian's libraries."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from installed import CHECKOUT, Installed

pytestmark = pytest.mark.host

PROGRAMS = [
    *("e2fsprogs", "fuse3", "git", "gnupg", "gocryptfs", "graphviz", "ipset", "iptables", "nftables", "openssl"),
    "postgresql",
]
"""What the tests need besides the libraries."""


@pytest.fixture(scope="module")
def inside(new_host: Callable[[str], Installed]) -> Installed:
    host = new_host("inside")
    host.install("python3-pytest", "python3-pytest-xdist", "python3-hypothesis", "python3-prometheus-client", *PROGRAMS)
    host.checkout()
    return host


def passed(host: Installed, *words: str) -> int:
    """Run pytest inside; gives how many tests passed, and fails where any did not."""
    command = ["python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--maxfail=30", *words]
    settings = ["STATE_AGENT_INSIDE=1", "STATE_AGENT_KILLS=25"]
    done = host.run("env", f"--chdir={CHECKOUT}", *settings, *command, status=None, timeout=2400)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    found = re.search(r"(\d+) passed", done.stdout)
    return int(found[1]) if found else 0


def test_what_changes_packages_accounts_and_units(inside: Installed) -> None:
    assert passed(inside, "-m", "inside", "tests/resources") >= 60


def test_everything_else_with_the_libraries_of_debian(inside: Installed) -> None:
    places = [f"tests/{room}" for room in ("unit", "cli", "resources", "states", "architecture")]
    assert passed(inside, "-n", "2", "--dist", "loadgroup", "-m", "not inside", *places) >= 600
