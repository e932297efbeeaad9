"""What the parts of one apply share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.engine.plan import Planner
from agent.engine.record import Recorder
from agent.engine.step import Step
from agent.errors import ResourceError
from agent.host import Host
from agent.journal import Intent, Journal, Memory
from agent.resource import AttributeChange, Refreshable, State, differences


@dataclass
class Watcher:
    """What is told while a run goes on: a step that is looked at or carried out, a step that ended.

    `reads_again` is told after a step was carried out and before it, or any that was carried out together with it, is
    read again: what happened to it until then is what that reading sees.
    """

    begins: Callable[[Step], None] = lambda _step: None
    ended: Callable[[Step], None] = lambda _step: None
    reads_again: Callable[[Step], None] = lambda _step: None


@dataclass
class Context:
    """One apply: the host, the journal and the number of the run in it, and the plan.

    `listeners` gives, by id, what is refreshed when that resource is changed; `touched` are the ids of what this run
    has changed so far.
    """

    host: Host
    journal: Journal
    run: int
    planner: Planner
    listeners: Mapping[str, Sequence[str]]
    recorder: Recorder
    watcher: Watcher
    stopped: Callable[[], bool]
    touched: set[str] = field(default_factory=set)

    def intent(
        self,
        step: Step,
        action: str,
        cause: str,
        *,
        before: State | None = None,
        attributes: Sequence[AttributeChange] = (),
        diff: str | None = None,
        memory: Memory | None = None,
    ) -> Intent:
        """What is about to be done for a step, as the journal keeps it, with what will be owed for it."""
        resource = step.entry.resource
        temporaries = list(resource.temporaries())
        owes = self.listeners.get(step.id, ())
        return Intent(step.id, step.entry.source, action, cause, before, attributes, diff, temporaries, owes, memory)

    def verify(self, step: Step) -> None:
        """Read a resource again after it was brought to its desired state; raises ResourceError where it is not."""
        resource = step.entry.resource
        left = differences(resource.read(self.host), resource.desired(self.host))
        if left is not None:
            words = ", ".join(_in_words(change) for change in left.attributes) or "it is still there"
            raise ResourceError(f"it was applied, but did not converge: {words}")


def _in_words(change: AttributeChange) -> str:
    return f"{change.attribute} is {_short(change.actual)}, not {_short(change.desired)}"


def _short(value: object) -> str:
    from agent.journal import shown

    text = str(shown(value))
    return text if len(text) <= 80 else text[:77] + "…"


def listeners_of(steps: Sequence[Step]) -> dict[str, list[str]]:
    """By id of what is listened to, the ids of those that listen."""
    found: dict[str, list[str]] = {}
    for step in steps:
        resource = step.entry.resource
        if isinstance(resource, Refreshable):
            for ref in resource.listens_to():
                found.setdefault(ref, []).append(step.id)
    return found
