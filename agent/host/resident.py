"""Whether a resident agent runs, which then does by itself what others have to be told to do."""

from __future__ import annotations

import socket
from pathlib import Path


def is_resident(run_dir: Path) -> bool:
    """Whether somebody answers at the socket of the resident agent."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(run_dir / "agent.sock"))
        except OSError:
            return False
        return True
