"""Where the agent keeps what is its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """`state` for journal, backups, compiled form; `run` for lock and socket."""

    state: Path
    run: Path
