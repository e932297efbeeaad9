"""The rows that the resident agent answers `agent status` with."""

from __future__ import annotations

import json

from agent.engine import Report
from agent.engine.step import IN_DESIRED_STATE, Step
from agent.graph import Entry
from agent.resources.file import File
from agent.watch.state import State

ENTRIES = [Entry(File(name=f'/srv/"ä" {name}', content=""), "it's", "site.toml:1", []) for name in "abc"]


def test_what_was_always_well_has_the_same_row_as_what_was_repaired() -> None:
    state = State(lambda _: False)
    state.use(ENTRIES, {entry.id: place for place, entry in enumerate(ENTRIES)})
    state.looked(Report("watch", "", [Step(entry) for entry in ENTRIES]), 5.25, everything=True)
    repaired = Step(ENTRIES[1], "changed", "drift")
    state.looked(Report("watch", "", [repaired]), 6.5)
    well, mended, _ = map(json.loads, state.rows(everything=True))
    assert mended == well | {"id": ENTRIES[1].id, "last_checked": 6.5, "last_drift": 6.5, "repairs": 1}
    assert well["id"] == ENTRIES[0].id
    assert (well["outcome"], well["state"], well["last_checked"]) == (IN_DESIRED_STATE, "it's", 5.25)
    assert [json.loads(row)["id"] for row in state.rows(everything=False)] == [ENTRIES[1].id]
