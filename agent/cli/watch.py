"""`agent watch`: stay, and keep the host in its desired state."""

from __future__ import annotations

import os
from pathlib import Path

import click

from agent.cli.options import Common, common_options


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
    from agent.cli.residence import stay

    return stay(common, Path(os.path.abspath(metrics_file)) if metrics_file else None, metrics_port)
