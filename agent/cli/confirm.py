"""`agent confirm`: keep the new firewall rules that `agent apply --confirm` has on probation."""

from __future__ import annotations

import click

from agent.cli.options import Common, common_options


@click.command(
    epilog="Examples:\n\n\b\n  sudo agent apply --confirm 60     in one connection\n  sudo agent confirm   in another"
)
@common_options
def confirm(common: Common) -> int:
    """Keep the new firewall rules that `agent apply --confirm SECONDS` waits for.

    Run it in a second connection: that it can be run there shows that the host can still be reached. Exit status 1
    where nothing waits, because the time is over and the old rules are back.
    """
    from agent.errors import ResourceError
    from agent.host.netfilter.confirm import confirm as keep

    if not keep(common.places.run, common.places.state):
        raise ResourceError(
            "no firewall rules wait to be confirmed",
            hint="if it took too long, the old ones are back: `agent apply --confirm SECONDS` once more",
        )
    if common.as_json:
        from agent.report.plain import VERSION, dumps

        print(dumps({"version": VERSION, "mode": "confirm", "confirmed": True}))
    elif not common.quiet:
        print("the new firewall rules stay")
    return 0
