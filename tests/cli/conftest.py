"""Fixtures of the tests from outside."""

from __future__ import annotations

from pathlib import Path

import pytest
from sitefolder import SiteFolder


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    """An empty site."""
    folder = SiteFolder(tmp_path / "site", tmp_path / "host", tmp_path / "state")
    folder.path.mkdir()
    folder.host.mkdir()
    return folder
