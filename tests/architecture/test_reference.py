"""The reference pages in docs/reference are what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.report.reference import pages

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGES = pages(ROOT / "states")


@pytest.mark.parametrize("name", PAGES)
def test_page_is_not_stale(name: str) -> None:
    page = REFERENCE / name
    assert page.exists(), "run: python -m agent docs --write docs/reference"
    assert page.read_text() == PAGES[name], "run: python -m agent docs --write docs/reference"


def test_no_page_is_left_over() -> None:
    kept = {str(path.relative_to(REFERENCE)) for path in REFERENCE.rglob("*.md")}
    assert kept == set(PAGES)
