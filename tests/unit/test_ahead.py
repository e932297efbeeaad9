"""Large libraries are imported while something else is waited for."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from agent.engine.ahead import imported_ahead, side_by_side
from agent.resources import KINDS, kind_class


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that is imported when the test says so."""
    (tmp_path / "slow_module.py").write_text("import sys\nsys.slow_gate.wait(30)\nready = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "slow_gate", threading.Event(), raising=False)
    monkeypatch.delitem(sys.modules, "slow_module", raising=False)
    return "slow_module"


def test_nobody_waits_for_a_module_before_the_end(slow: str) -> None:
    with imported_ahead([slow]):
        assert not hasattr(sys.modules.get(slow), "ready")
        sys.slow_gate.set()  # type: ignore[attr-defined]
    assert sys.modules[slow].ready


def test_what_is_not_there_is_told_where_it_is_needed() -> None:
    with imported_ahead(["there_is_no_such_module", "json"]):
        pass
    assert "json" in sys.modules


def test_no_thread_for_nothing() -> None:
    before = threading.active_count()
    with imported_ahead([]):
        assert threading.active_count() == before


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_is_a_module(kind: str) -> None:
    for name in kind_class(kind).reads_with:
        assert __import__(name)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_all_jobs_are_done_beside_one_another(count: int) -> None:
    together, done = threading.Barrier(max(count, 1)), list[int]()

    def job(number: int) -> None:
        together.wait(30)  # comes to nothing where one waits for the end of another
        done.append(number)

    side_by_side([lambda number=number: job(number) for number in range(count)])
    assert sorted(done) == list(range(count))
