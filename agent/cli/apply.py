"""`agent apply`: reconcile the host, or show what differs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from agent.cli.look import look, tell
from agent.cli.options import Common, common_options, complete_target

if TYPE_CHECKING:
    from agent.engine import Engine, Watcher
    from agent.engine.step import Step
    from agent.report.progress import Progress


@click.command(
    epilog="Examples:\n\n\b\n  sudo agent apply --check            what would be changed, with diffs\n"
    "  sudo agent apply                    change it\n"
    "  sudo agent apply file:/etc/mailname only this file and what it needs\n"
    "  sudo agent apply 'apt:*' state:spf  all packages, and one state\n"
    "  sudo agent apply --check --json | jq .summary",
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=complete_target)
@click.option("--check", is_flag=True, help="Change nothing; show what would be changed. Exit status 2 if anything.")
@click.option("--wait", is_flag=True, help="Wait while another apply is running, instead of giving up.")
@click.option(
    "--confirm",
    type=click.IntRange(1, 86400),
    metavar="SECONDS",
    help="Put old firewall rules back unless the new ones are confirmed in time: by Enter, or `agent confirm`.",
)
@common_options
def apply(targets: tuple[str, ...], check: bool, wait: bool, confirm: int | None, common: Common) -> int:
    """Bring this host to its desired state.

    TARGET narrows it to resources and what they need: "kind:name", a pattern such as "file:/etc/postfix/*" or
    "apt:*", or "state:name".
    """
    if check:
        return look(common, targets, confirm)
    from agent.engine import Engine
    from agent.report.progress import Progress

    with Progress(quiet=common.quiet or common.as_json, colour=not common.no_color) as progress:
        progress.task("reading the declarations")
        engine = Engine(common.desired, common.places, progress.say, confirm_within=confirm)
        os.umask(0o022)  # what a command makes must not depend on who runs this one
        with stops_gently(engine, progress):
            report = engine.apply(targets, wait=wait, watcher=printing(common, progress), tells=not common.quiet)
    return tell(report, common)


def printing(common: Common, progress: Progress) -> Watcher:
    """Shows what is at hand, and prints each step that came to something."""
    from agent.engine import Watcher
    from agent.engine.step import IN_DESIRED_STATE
    from agent.report.text import Style, step_lines

    style = Style(common.colour)

    def ended(step: Step) -> None:
        if step.outcome != IN_DESIRED_STATE or common.verbose:
            progress.clear()
            lines = list(step_lines(step, style, verbose=common.verbose, brief=True))
            with _whoever_reads():
                print("\n".join(lines), flush=True)

    if common.as_json or common.quiet:
        return Watcher()
    return Watcher(lambda step: progress.task(step.id), ended)


@contextmanager
def _whoever_reads() -> Iterator[None]:
    """A run that has begun goes on to its end, though nobody reads what it writes any more."""
    try:
        yield
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def stops_gently(engine: Engine, progress: Progress) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a terminal that goes away end the run after the step in hand."""

    def stop(_signal: int, _frame: Any) -> None:
        engine.stop()
        # What was interrupted may be writing to stderr itself, whose buffer takes no second writer (RuntimeError).
        with suppress(OSError, RuntimeError):
            progress.clear()
        with suppress(OSError):
            os.write(sys.stderr.fileno(), "stopping after the step in hand …\n".encode())

    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
