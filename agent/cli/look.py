"""`agent apply --check`, once its command line is understood; and how it is told what a run came to."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.cli.common import Common

if TYPE_CHECKING:
    from agent.engine import Report


def look(common: Common, targets: Sequence[str] = (), confirm: float | None = None) -> int:
    """Show what would be changed, and change nothing; gives the exit status."""
    from agent.engine import Engine, Watcher
    from agent.report.progress import Progress

    with Progress(quiet=common.quiet or common.as_json, colour=not common.no_color) as progress:
        progress.task("reading the declarations")
        engine = Engine(common.desired, common.places, progress.say, confirm_within=confirm)
        report = engine.check(targets, Watcher(lambda step: progress.task(step.id)))
    return tell(report, common)


def tell(report: Report, common: Common) -> int:
    """Print what a run came to; gives the exit status."""
    report.site = common.shown_site
    print_report(report, common)
    show_bugs(report, common)
    return report.exit_status


def show_bugs(report: Report, common: Common) -> None:
    """With --debug, where in this program happened what ought not to."""
    if common.debug:
        import traceback

        for bug in report.bugs:
            traceback.print_exception(bug)


def print_report(report: Report, common: Common, more: Mapping[str, Any] | None = None) -> None:
    """Print what it came to: as JSON, with `more` in the document, or as text."""
    from agent.report.text import Style, closing_lines, report_lines, step_lines

    if common.as_json:
        from agent.report.json import report_document
        from agent.report.plain import dumps

        print(dumps(report_document(report) | dict(more or {})))
        return
    style = Style(common.colour)
    if common.quiet:
        for step in report.steps:
            if step.error is not None:
                print("\n".join(step_lines(step, style)), file=sys.stderr)
        return
    lines = report_lines(report, style, verbose=common.verbose) if report.mode == "check" else closing_lines(report)
    for line in lines:
        print(line)
