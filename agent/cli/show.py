"""`agent show`: the compiled desired state."""

from __future__ import annotations

import sys

import click

from agent.cli.options import Common, common_options, complete_target


@click.command(
    epilog="Examples:\n\n\b\n  agent show\n  agent show file:/etc/postfix/main.cf\n  agent show state:postfix --json",
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=complete_target)
@common_options
def show(targets: tuple[str, ...], common: Common) -> int:
    """Show the compiled desired state, with the file and line that each resource comes from.

    Requirements that no declaration names are listed as implied. Secrets are not shown.
    """
    from agent.engine.targets import select
    from agent.report.declared import document, lines
    from agent.report.text import Style

    desired = common.desired
    entries = select(desired.entries, targets, needs=False)
    if common.as_json:
        from agent.report.plain import dumps

        print(dumps(document(common.shown_site, desired, entries)))
    else:
        style = Style(common.colour)
        sys.stdout.writelines(line + "\n" for entry in entries for line in lines(entry, style))
    return 0
