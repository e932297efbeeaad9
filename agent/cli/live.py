"""`agent status` where the resident agent answers: at once, so nothing is imported that this does not take."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from agent.cli.common import Common
from agent.host.asking import ask
from agent.report.plain import dumps, moment, status_line, visible


def told_live(common: Common) -> int | None:
    """Print what the resident agent knows; gives the exit status, or None where no agent answers for this site."""
    live = _from_resident(common)
    if live is None:
        return None
    document, rows = live
    _print(document, rows, common)
    found = 1 if document["trouble"] else _exit_status(document["summary"])
    return 3 if document.get("site_error") and found != 1 else found


def _from_resident(common: Common) -> tuple[dict[str, Any], bytes] | None:
    """Its answer, with resources as a list in JSON."""
    started = time.perf_counter()
    found = ask(common.places.run / "agent.sock", {"everything": common.as_json or common.verbose})
    if found is None or not found[0]["last_full_check"]:
        return None
    document, rows = found
    place = common.site_place  # it may be gone: the agent goes on with what it said
    if document["site"] != str(common.site_path if place.exists() else place):
        return None
    document |= {"site": common.shown_site, "duration_s": round(time.perf_counter() - started, 6)}
    return document, rows


def _exit_status(summary: Mapping[str, int]) -> int:
    found = {outcome for outcome, count in summary.items() if count}
    if found & {"failed", "blocked"}:
        return 1
    return 2 if any(outcome.startswith("would-") or outcome == "unknown" for outcome in found) else 0


def _print(document: Mapping[str, Any], rows: bytes, common: Common) -> None:
    if common.as_json:
        # The rows as they came: to read and write ten thousands of them again would take longer than all the rest.
        before, key, after = dumps(document).partition('"resources": ')
        print(before, key, sep="", end="", flush=True)
        sys.stdout.buffer.write(rows)  # which is ASCII
        print(after.removeprefix("[]"))
    elif not common.quiet:
        for row in json.loads(rows):
            print(status_line(row))
        for note in document["notes"]:
            print(f"note: {visible(note)}")
        if document["trouble"]:
            print(f"nothing can be looked after just now: {visible(document['trouble'])}")
        counts = ", ".join(f"{count} {outcome.replace('-', ' ')}" for outcome, count in document["summary"].items())
        print(
            f"{counts or 'nothing is declared'}; all looked at {moment(document['last_full_check'])}, and watched since"
        )
