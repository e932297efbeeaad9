"""What a run came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.engine.step import BLOCKED, DONE, FAILED, IN_DESIRED_STATE, PLANNED, SKIPPED, UNKNOWN, Step


@dataclass
class Report:
    """What a run came to: its steps in the order of the plan, notes for the user, and what ought not to happen."""

    mode: str
    site: str
    steps: list[Step]
    run: int | None = None
    duration: float = 0.0
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False
    bugs: Sequence[Exception] = ()

    @property
    def summary(self) -> dict[str, int]:
        """How many resources have each outcome."""
        return dict(Counter(step.outcome for step in self.steps))

    @property
    def converged(self) -> bool:
        """Whether every resource is known to be in its desired state."""
        return all(step.outcome == IN_DESIRED_STATE or step.outcome in DONE for step in self.steps)

    @property
    def exit_status(self) -> int:
        """0 in the desired state or made so, 1 something failed, 2 a check found changes to make."""
        outcomes = {step.outcome for step in self.steps if not step.outside}
        if outcomes & {FAILED, BLOCKED, SKIPPED} or self.interrupted:
            return 1
        if self.mode in ("apply", "rollback"):
            return 0 if outcomes <= {IN_DESIRED_STATE, *DONE} else 1
        return 2 if outcomes & {*PLANNED, UNKNOWN} else 0
