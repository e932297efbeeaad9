"""What the resident agent says while it runs: to systemd's journal with fields of their own, else to stderr."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from agent.engine.step import FAILED, Step
from agent.host.systemd.supervisor import JournalLog

_ERROR, _WARNING, _NOTICE, _INFO = 3, 4, 5, 6


class Teller:
    """Writes one line for each event; under systemd (JOURNAL_STREAM in systemd.exec(5)) to its journal."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._journal = JournalLog() if "JOURNAL_STREAM" in os.environ else None
        self._least = _WARNING if quiet else _INFO

    def info(self, message: str, **fields: str) -> None:
        """What is good to know."""
        self._say(message, _INFO, fields)

    def warn(self, message: str, **fields: str) -> None:
        """What somebody ought to look after."""
        self._say(message, _WARNING, fields)

    def step(self, step: Step, run: int | None) -> None:
        """How one resource ended."""
        why = f" ({step.cause})" if step.cause else ""
        what = f"{step.outcome} {step.id}{why}"
        if step.refresh_causes:
            what = f"{step.outcome} {step.id}: {step.refresh} ({', '.join(step.refresh_causes)})"
        if step.error:
            what += f": {step.error}"
        elif step.note:
            what += f": {step.note}"
        fields = {
            "STATE_AGENT_RESOURCE": step.id,
            "STATE_AGENT_OUTCOME": step.outcome,
            "STATE_AGENT_CAUSE": step.cause or "",
            "STATE_AGENT_DURATION_USEC": str(round(step.duration * 1e6)),
            "STATE_AGENT_RUN": "" if run is None else str(run),
        }
        level = _ERROR if step.outcome == FAILED else _NOTICE
        self._say(what, level, {name: value for name, value in fields.items() if value})

    def _say(self, message: str, level: int, fields: dict[str, str]) -> None:
        if level > self._least:
            return
        if self._journal is not None and self._journal.send(message, level, fields):
            return
        with suppress(OSError, ValueError):  # nobody may be reading any more
            print(message, file=sys.stderr, flush=True)
