"""`agent log`: the journal."""

from __future__ import annotations

import json
import os
from contextlib import closing
from typing import Any

import click

from agent.cli.options import Common, common_options
from agent.errors import JournalError, UsageError


@click.command(
    epilog="Examples:\n\n\b\n  agent log                 the last runs\n"
    "  agent log 12              what run 12 changed, with diffs\n"
    "  agent log --limit 200 --json",
)
@click.argument("run", required=False, type=click.IntRange(min=1))
@click.option("--limit", default=20, type=click.IntRange(min=1), show_default=True, help="How many runs to list.")
@common_options
def log(run: int | None, limit: int, common: Common) -> int:
    """Show the journal: runs, what each changed and why (intent or drift), diffs and durations."""
    from agent.journal import Journal

    folder = common.places.state
    if not os.access(folder, os.X_OK) and folder.exists():
        raise JournalError(f"the journal in {folder} cannot be read", hint="run it with sudo")
    journal = Journal.to_read(folder)
    if journal is None:
        if run is not None:
            raise UsageError(f"there is no run {run}", hint="nothing was applied yet")
        runs: list[dict[str, Any]] = []
    else:
        with closing(journal):
            runs = _runs(journal, run, limit)
    _print(runs, run is not None, common)
    return 0


def _runs(journal: Any, run: int | None, limit: int) -> list[dict[str, Any]]:
    if run is None:
        return [_entry(row, journal.changes(row["id"])) for row in journal.runs(limit)]
    row = journal.run(run)
    if row is None:
        newest = journal.runs(1)
        hint = f"the newest is {newest[0]['id']}" if newest else "nothing was applied yet"
        raise UsageError(f"there is no run {run}", hint=hint)
    return [_entry(row, journal.changes(run))]


def _entry(row: dict[str, Any], changes: list[dict[str, Any]]) -> dict[str, Any]:
    ended = row["ended"] or not os.path.exists(f"/proc/{row['pid']}")
    return {
        "run": row["id"],
        "mode": row["mode"],
        "site": row["site"],
        "pid": row["pid"],
        "started": row["started"],
        "duration_s": round(row["ended"] - row["started"], 3) if row["ended"] else None,
        "outcome": "cut off" if row["outcome"] == "running" and ended else row["outcome"],
        "summary": json.loads(row["summary"] or "{}"),
        "changes": [_change(change) for change in changes],
    }


def _change(change: dict[str, Any]) -> dict[str, Any]:
    kept = {
        key: change[key] for key in ("resource", "source", "action", "cause", "outcome", "started", "diff", "error")
    }
    kept["duration_s"] = change["duration"]
    kept["changes"] = [
        dict(zip(("attribute", "actual", "desired"), each, strict=True)) for each in json.loads(change["attributes"])
    ]
    return kept


def _print(runs: list[dict[str, Any]], whole: bool, common: Common) -> None:
    from agent.report.history import change_lines, run_line
    from agent.report.text import Style

    if common.as_json:
        from agent.report.plain import dumps

        print(dumps({"version": 1, "mode": "log", "runs": runs}))
        return
    style = Style(common.colour)
    for run in runs:
        print(run_line(run))
        for change in run["changes"] if whole or common.verbose else ():
            print("\n".join(change_lines(change, style)))
    if not runs:
        print("nothing was applied yet")
