"""`agent watch`, once its command line is understood: the agent that stays, with as little in memory as it takes."""

from __future__ import annotations

import os
import time
from pathlib import Path

from agent.cli.common import Common, shipped_states
from agent.declaration.compiled import load_apart
from agent.errors import DeclarationError
from agent.host.lock import RESIDENT, exclusive
from agent.host.systemd.supervisor import tell
from agent.watch.agent import Agent
from agent.watch.events import Events
from agent.watch.rounds import Pulse
from agent.watch.site import wait_until_changed
from agent.watch.tell import Teller


def stay(common: Common, metrics_file: Path | None = None, metrics_port: int | None = None) -> int:
    """Run the resident agent until it is stopped; gives the exit status."""
    os.umask(0o022)  # what a command makes must not depend on who runs this one
    with exclusive(common.places.run / "watch.lock", RESIDENT):
        teller = Teller(quiet=common.quiet)
        agent = _agent(common, teller)
        if metrics_file or metrics_port:
            from agent.watch.metrics import Metrics

            agent.state.changed = Metrics(metrics_file, metrics_port, teller.warn).show
        agent.run()
    return 0


def _agent(common: Common, teller: Teller) -> Agent:
    """The agent; as a service it waits where the site is wrong. Raises DeclarationError elsewhere."""
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
