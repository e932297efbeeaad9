"""`agent watch`: stay, and keep the host in its desired state."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.options import Common, common_options, shipped_states

if TYPE_CHECKING:
    from agent.watch.agent import Agent
    from agent.watch.tell import Teller


@click.command(
    epilog="Examples:\n\n\b\n  sudo systemctl start state-agent   as a service\n"
    "  sudo agent watch                   in the foreground; Ctrl-C ends it\n"
    "  journalctl -u state-agent STATE_AGENT_RESOURCE=file:/etc/mailname",
)
@click.option("--metrics-file", metavar="PATH", help="Keep a page of Prometheus metrics in this file.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), metavar="PORT", help="Serve it on 127.0.0.1, too.")
@common_options
def watch(metrics_file: str | None, metrics_port: int | None, common: Common) -> int:
    """Stay: bring this host to its desired state, then repair drift as it happens.

    Only what drifted is touched, and what listens to it. The site itself is watched too: a change of it is applied,
    unless it is wrong. SIGHUP reads the site again and looks at everything.
    """
    from agent.host.lock import RESIDENT, exclusive
    from agent.watch.tell import Teller

    os.umask(0o022)  # what a command makes must not depend on who runs this one
    with exclusive(common.places.run / "watch.lock", RESIDENT):
        agent = _agent(common, Teller(quiet=common.quiet))
        if metrics_file or metrics_port:
            from agent.watch.metrics import Metrics

            agent.state.changed = Metrics(Path(metrics_file) if metrics_file else None, metrics_port).show
        agent.run()
    return 0


def _agent(common: Common, teller: Teller) -> Agent:
    """The agent; as a service it waits where the site is wrong. Raises DeclarationError elsewhere."""
    from agent.declaration.compiled import load_apart
    from agent.errors import DeclarationError
    from agent.host.supervisor import tell
    from agent.watch.agent import Agent
    from agent.watch.events import Events
    from agent.watch.rounds import Pulse
    from agent.watch.site import wait_until_changed

    places, site, shipped = common.places, common.site_path, shipped_states()
    while True:
        since = time.time()
        try:
            return Agent(lambda: load_apart(site, shipped, places.state), places, teller)
        except DeclarationError as error:
            if "NOTIFY_SOCKET" not in os.environ:
                raise
            teller.warn(f"the site is wrong, and nothing is done until it is right: {error}")
            tell("READY=1", "STATUS=The site is wrong")
            events = Events()
            wait_until_changed(error, since, events, Pulse(time.monotonic))
            events.close()
