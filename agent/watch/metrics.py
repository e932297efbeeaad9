"""A page of Prometheus metrics: in a file for the node exporter's textfile collector, or served on the loopback."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from agent.engine.step import OUTCOMES
from agent.errors import AgentError, UsageError
from agent.watch.state import State


class Metrics:
    """The metrics of one agent; `warn` is told when its file cannot be written, and the agent goes on.

    Raises UsageError where prometheus_client is not installed, AgentError where the port cannot be had.
    """

    def __init__(self, path: Path | None, port: int | None, warn: Callable[[str], None]) -> None:
        try:
            import prometheus_client as prometheus
        except ImportError:
            hint = "apt install python3-prometheus-client"
            raise UsageError("metrics need the library prometheus_client", hint=hint) from None
        self._path, self._warn, self._trouble = path, warn, ""
        gauge, own = prometheus.Gauge, prometheus.CollectorRegistry()
        self._outcomes = gauge("state_agent_resources", "Resources by outcome", ["outcome"], registry=own)
        self._drifted = gauge("state_agent_drifted", "Resources that ever drifted", registry=own)
        self._full = gauge("state_agent_last_full_check_seconds", "When everything was looked at", registry=own)
        self._repairs = prometheus.Counter("state_agent_repairs", "Drifts repaired by this process", registry=own)
        self._rounds = prometheus.Histogram("state_agent_round_seconds", "How long rounds took", registry=own)
        self._write = None if path is None else partial(prometheus.write_to_textfile, str(path), own)
        if port is not None:
            try:
                prometheus.start_http_server(port, addr="127.0.0.1", registry=own)
            except OSError as error:
                raise AgentError(f"metrics cannot be served on 127.0.0.1:{port}: {error.strerror}") from None
        self._counted = 0

    def show(self, state: State, seconds: float) -> None:
        """A round was made that took so many seconds."""
        summary = state.summary
        for outcome in OUTCOMES:
            self._outcomes.labels(outcome).set(summary.get(outcome, 0))
        self._drifted.set(len(state.history))
        self._full.set(state.last_full_check)
        self._repairs.inc(state.repairs - self._counted)
        self._counted = state.repairs
        self._rounds.observe(seconds)
        try:
            if self._write is not None:
                self._write()
            self._trouble = ""
        except OSError as error:
            if (why := error.strerror or str(error)) != self._trouble:
                self._trouble = why
                self._warn(f"the metrics cannot be written to {self._path}: {why}")
