"""What all tests share.

`inside` tests change packages, accounts or units and so only run inside a disposable host, where `tests/run` starts
them with STATE_AGENT_INSIDE set; `host` tests boot such a host themselves.
"""

from __future__ import annotations

import os

import pytest

INSIDE = bool(os.environ.get("STATE_AGENT_INSIDE"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what belongs to the other side: nothing is skipped in silence, `tests/run` runs both sides."""
    kept, dropped = [], []
    for item in items:
        inside = item.get_closest_marker("inside") is not None
        host = item.get_closest_marker("host") is not None
        (dropped if (inside and not INSIDE) or (host and INSIDE) else kept).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept
