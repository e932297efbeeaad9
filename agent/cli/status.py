"""`agent status`: what is in desired state, what drifted, what was repaired."""

from __future__ import annotations

import time
from typing import Any

import click

from agent.cli.live import told_live
from agent.cli.look import show_bugs
from agent.cli.options import Common, common_options, complete_target


@click.command(
    epilog="Examples:\n\n\b\n  sudo agent status\n  sudo agent status --json | jq '.resources[] | select(.repairs > 0)'"
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=complete_target)
@common_options
def status(targets: tuple[str, ...], common: Common) -> int:
    """Show what is in desired state, what drifted, what was repaired and when, and what is failing.

    The resident agent answers where one runs (`agent watch`), else everything is looked at now.

    Exit status 0 if all is in desired state, 2 if something differs, 1 if something fails; else 3 if the declarations
    are wrong, though the resident agent goes on with what they said before.
    """
    if not targets and not common.debug and (found := told_live(common)) is not None:
        return found
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


def _print_json(report: Any, history: dict[str, dict[str, Any]]) -> None:
    from agent.report.json import report_document
    from agent.report.plain import dumps

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
    from agent.report.plain import in_line, moment, visible
    from agent.report.text import Style, step_lines, summary_line

    style = Style(common.colour)
    for step in report.steps:
        if step.outcome != IN_DESIRED_STATE or common.verbose:
            print("\n".join(step_lines(step, style, verbose=common.verbose)))
    repaired = [(id, known) for id, known in history.items() if known["repairs"]]
    for id, known in sorted(repaired, key=lambda each: -each[1]["last_drift"])[: None if common.verbose else 10]:
        times = "once" if known["repairs"] == 1 else f"{known['repairs']} times"
        print(f"  {in_line(id):<40} repaired {times}, last {moment(known['last_drift'])}")
    for note in report.notes:
        print(f"note: {visible(note)}")
    print(summary_line(report))
