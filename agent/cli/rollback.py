"""`agent rollback`: put back what a run, and those after it, changed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from agent.cli.apply import printing, stops_gently
from agent.cli.look import print_report, show_bugs
from agent.cli.options import Common, common_options

if TYPE_CHECKING:
    from agent.engine import Report
    from agent.engine.rollback import Rollback


@click.command(
    epilog="Examples:\n\n\b\n  agent log                       which run it was\n"
    "  sudo agent rollback 12 --check  what would be put back, and what cannot be\n"
    "  sudo agent rollback 12          ask on a terminal, and put it back"
)
@click.argument("run", type=click.IntRange(min=1))
@click.option("--check", is_flag=True, help="Change nothing; show what would be put back. Exit status 2 if anything.")
@click.option("--yes", is_flag=True, help="Do not ask, as where no terminal is.")
@click.option("--force", is_flag=True, help="Put back what was changed by others since, too.")
@click.option("--wait", is_flag=True, help="Wait while another run holds the lock, instead of giving up.")
@common_options
def rollback(run: int, *, check: bool, yes: bool, force: bool, wait: bool, common: Common) -> int:
    """Put back what RUN and all later runs changed.

    Each resource goes back to its state before RUN, the last change first; what listens to it is refreshed. What cannot
    be put back, and what others changed since, is said first and left as it is. The declarations stay as they are: the
    next `agent apply` brings the newer state back unless they are changed.
    """
    from agent.engine.rollback import Rollback
    from agent.report.progress import Progress

    engine = Rollback(common.desired, common.places, run, force=force)
    ask = not yes and sys.stdin.isatty()
    if check or ask:
        report = _previewed(engine, common)
        if check or report.exit_status != 2:
            print_report(report, common, {"rollback": run})
            return report.exit_status
        _ask(report, run, common)
    os.umask(0o022)  # what a program makes must not depend on who runs this one
    with Progress(quiet=common.quiet or common.as_json, colour=not common.no_color) as progress:
        engine.tell_progress(progress.say)
        with stops_gently(engine, progress):
            report = engine.roll_back(wait=wait, watcher=printing(common, progress))
    report.site = common.shown_site
    print_report(report, common, {"rollback": run})
    show_bugs(report, common)
    return report.exit_status


def _previewed(engine: Rollback, common: Common) -> Report:
    from agent.engine import Watcher
    from agent.report.progress import Progress

    with Progress(quiet=common.quiet or common.as_json, colour=not common.no_color) as progress:
        report = engine.preview(Watcher(lambda step: progress.task(step.id)))
    report.site = common.shown_site
    show_bugs(report, common)
    return report


def _ask(report: Report, run: int, common: Common) -> None:
    """Show the plan, also to who wants to see little, and ask."""
    from agent.report.text import Style, report_lines

    for line in report_lines(report, Style(common.colour and not common.as_json), verbose=common.verbose):
        print(line, file=sys.stderr if common.as_json else sys.stdout)
    click.confirm(f"put back what run {run} and later ones changed?", abort=True, err=True)
