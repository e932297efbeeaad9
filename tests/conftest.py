"""What all tests share.

`inside` tests change packages, accounts or units and so only run inside a disposable host, where a host test starts
them with STATE_AGENT_INSIDE set; `host` tests boot such hosts themselves.
"""

from __future__ import annotations

import os

import pytest

INSIDE = bool(os.environ.get("STATE_AGENT_INSIDE"))
_skipped_hosts: list[str] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what belongs to the other side: a host test runs the `inside` tests where they belong."""
    kept, dropped = [], []
    for item in items:
        inside = item.get_closest_marker("inside") is not None
        host = item.get_closest_marker("host") is not None
        (dropped if (inside and not INSIDE) or (host and INSIDE) else kept).append(item)
    # The slow ones first: the other worker takes all the rest meanwhile.
    kept.sort(key=lambda item: item.get_closest_marker("host") is None)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
    items[:] = kept


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note host tests that were skipped."""
    if report.skipped and "host" in report.keywords:
        _skipped_hosts.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A host test that did not run is a failure."""
    if _skipped_hosts and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why a run without failed tests failed."""
    for nodeid in _skipped_hosts:
        terminalreporter.write_line(f"a skipped host test counts as failed: {nodeid}", red=True)
