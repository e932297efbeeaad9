"""`agent status`: what is in desired state, what drifted, what was repaired."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from agent.cli.apply import show_bugs
from agent.cli.options import Common, common_options, complete_target


@click.command(
    epilog="Examples:\n\n\b\n  sudo agent status\n  sudo agent status --json | jq '.resources[] | select(.repairs > 0)'"
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=complete_target)
@common_options
def status(targets: tuple[str, ...], common: Common) -> int:
    """Show what is in desired state, what drifted, what was repaired and when, and what is failing.

    The resident agent answers where one runs (`agent watch`), else everything is looked at now.

    Exit status 0 if all is in desired state, 2 if something differs, 1 if something fails.
    """
    live = _from_resident(targets, common)
    if live is not None:
        document, rows = live
        _print_live(document, rows, common)
        return 1 if document["trouble"] else _exit_status(document["summary"])
    from agent.engine import Engine, Watcher
    from agent.report.progress import Progress

    with Progress(quiet=common.quiet or common.as_json, colour=not common.no_color) as progress:
        progress.task("reading the declarations")
        engine = Engine(common.desired, common.places, progress.say)
        report = engine.check(targets, Watcher(lambda step: progress.task(step.id)))
        history = engine.history()
    show_bugs(report, common)
    report.site = common.shown_site
    report.mode = "status"
    if common.as_json:
        _print_json(report, history)
    elif not common.quiet:
        _print(report, history, common)
    return report.exit_status


def _from_resident(targets: tuple[str, ...], common: Common) -> tuple[dict[str, Any], str] | None:
    """What the resident agent knows, with resources as a list in JSON.

    None where none answers for this site, or it does not know the targets.
    """
    from agent.host.asking import ask

    if targets or common.debug:
        return None
    started = time.perf_counter()
    found = ask(common.places.run / "agent.sock", {"everything": common.as_json or common.verbose})
    if found is None or found[0]["site"] != str(common.site_path) or not found[0]["last_full_check"]:
        return None
    document, rows = found
    document |= {"site": common.shown_site, "duration_s": round(time.perf_counter() - started, 6)}
    return document, rows


def _exit_status(summary: Mapping[str, int]) -> int:
    found = {outcome for outcome, count in summary.items() if count}
    if found & {"failed", "blocked"}:
        return 1
    return 2 if any(outcome.startswith("would-") or outcome == "unknown" for outcome in found) else 0


def _print_live(document: Mapping[str, Any], rows: str, common: Common) -> None:
    import json

    from agent.report.history import moment, status_line
    from agent.report.json import dumps
    from agent.report.text import visible

    if common.as_json:
        # The rows as they came: to read and write ten thousands of them again would take longer than all the rest.
        before, key, after = dumps(document).partition('"resources": ')
        print(before, key, rows, after.removeprefix("[]"), sep="")
    elif not common.quiet:
        for row in json.loads(rows):
            print(status_line(row))
        for note in document["notes"]:
            print(f"note: {visible(note)}")
        if document["trouble"]:
            print(f"nothing can be looked after just now: {visible(document['trouble'])}")
        counts = ", ".join(f"{count} {outcome.replace('-', ' ')}" for outcome, count in document["summary"].items())
        print(f"{counts}; all looked at {moment(document['last_full_check'])}, and watched since")


def _print_json(report: Any, history: dict[str, dict[str, Any]]) -> None:
    from agent.report.json import dumps, report_document

    document = report_document(report)
    now = time.time()
    for row in document["resources"]:
        known = history.get(row["id"], {})
        row["last_checked"] = now
        row["last_drift"] = known.get("last_drift")
        row["repairs"] = known.get("repairs", 0)
        row["contested"] = False
    print(dumps(document))


def _print(report: Any, history: dict[str, dict[str, Any]], common: Common) -> None:
    from agent.engine.step import IN_DESIRED_STATE
    from agent.report.history import moment
    from agent.report.text import Style, step_lines, summary_line, visible

    style = Style(common.colour)
    for step in report.steps:
        if step.outcome != IN_DESIRED_STATE or common.verbose:
            print("\n".join(step_lines(step, style, verbose=common.verbose)))
    repaired = [(id, known) for id, known in history.items() if known["repairs"]]
    for id, known in sorted(repaired, key=lambda each: -each[1]["last_drift"])[: None if common.verbose else 10]:
        times = "once" if known["repairs"] == 1 else f"{known['repairs']} times"
        print(f"  {id:<40} repaired {times}, last {moment(known['last_drift'])}")
    for note in report.notes:
        print(f"note: {visible(note)}")
    print(summary_line(report))
