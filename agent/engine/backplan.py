"""The plan of a rollback: what each resource goes back to, what is left alone, and what cannot be put back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from agent.declaration.desired import Desired
from agent.engine.changed import Before, Changed
from agent.engine.context import Context
from agent.engine.follow import Followers
from agent.engine.record import declared_text
from agent.engine.step import FAILED, PLANNED, SKIPPED, Step, as_resource_error
from agent.engine.undo import plan_undo
from agent.errors import Missing, ResourceError
from agent.graph import Entry
from agent.journal import Journal
from agent.resource import State, Undoable, differences
from agent.resources import kind_class

IN_PART = "in part"
_NAMED = 12


class BackPlan:
    """Steps in the order in which they are undone, and notes; `targets` are the states to go back to, by id.

    With `force` also what was changed by others since goes back.
    """

    followers: Followers

    def __init__(self, context: Context, desired: Desired, *, force: bool) -> None:
        self._context, self._host, self._journal = context, context.host, context.journal
        self._entries, self._force = desired.entries, force
        self._declared = {entry.id: entry for entry in desired.entries}
        self._found: dict[str, Changed] = {}
        self.steps: list[Step] = []
        self.notes: list[str] = []
        self.targets: dict[str, State | None] = {}

    def make(self, all_changed: Iterable[Changed]) -> None:
        """Look at all that was changed."""
        for changed in all_changed:
            entry = self._entry(changed)
            if entry is None:
                self.notes.append(f"{changed.id} was changed, but how it was declared is not known any more")
                continue
            step = Step(entry, cause="intent")
            self._context.watcher.begins(step)
            self._look(step, changed)
            self._found[step.id] = changed
            self.steps.append(step)
        self.steps.sort(key=self._place, reverse=True)
        self._host.leaving = [step.entry.resource for step in self.steps if step.outcome == "would-remove"]
        self.notes += self._still_asked_for()
        self.followers = Followers(self._context, self._entries, self.steps, set(self._found))

    def _place(self, step: Step) -> int:
        """Where its turn is in the history: of what goes at its first change, of what stays at its last."""
        changed = self._found[step.id]
        return changed.first if step.outcome == "would-remove" else changed.last

    def _entry(self, changed: Changed) -> Entry | None:
        """The resource as it was applied; the site's own, which knows its secrets, where that is the same."""
        own, memory = self._declared.get(changed.id), self._journal.rolling.remembered(changed.id)
        if memory is None or (own is not None and declared_text(own.resource) == memory.declared):
            return own
        try:
            cls: Any = kind_class(memory.kind)
            applied = Entry(cls(**json.loads(memory.declared)), "", memory.source, own.requires if own else [])
        except (KeyError, TypeError, ValueError):
            return own
        return applied

    def _look(self, step: Step, changed: Changed) -> None:
        """Fill in what comes of one resource."""
        resource = step.entry.resource
        if not isinstance(resource, Undoable):
            _leave(step, f"a {resource.kind} cannot be put back: what it did stays")
            return
        try:
            before = changed.before()
        except OSError:
            _leave(step, "cannot be put back: the backup of what it held is gone")
            return
        try:
            self._compare(step, changed, before)
        except ResourceError as error:
            _leave(step, f"cannot be put back: {self._context.planner.hide(error.summary)}")
        except Exception as error:  # noqa: BLE001 - a bug in a kind, too, is its resource's
            self._context.planner.told(error)
            step.outcome, step.error = FAILED, str(as_resource_error(error))

    def _compare(self, step: Step, changed: Changed, before: Before) -> None:
        resource: Any = step.entry.resource
        comes = False
        try:
            actual = resource.read(self._host)
        except Missing:  # as a unit, whose file this rollback may bring back first
            actual, comes = None, True
        target = changed.target(actual, before, whole=resource.undone_whole)
        self.targets[step.id] = target
        lost = sorted(before.secrets & changed.touched) if actual is not None else []
        secret = f"{', '.join(lost)} was secret, and never kept" if lost else ""
        if not _differs(self._journal, actual, target, resource.not_undone):
            if secret:
                _leave(step, f"cannot be put back: {secret}")
            else:
                step.cause = None
            return
        edited = [] if comes or self._force else changed.edited(actual, resource.not_undone)
        if edited:
            step.outcome, step.cause = SKIPPED, None
            step.note = f"was changed by others since ({', '.join(edited)}), and is left alone without --force"
            return
        left = "; ".join(filter(None, (secret, resource.cannot_undo(self._host, target))))
        plan_undo(step, actual, target, self._journal.last_set(step.id))
        step.diff = step.diff and self._context.planner.hide(step.diff)
        step.note = f"{IN_PART}: {left}" if left else "as before"

    def _still_asked_for(self) -> Iterator[str]:
        """Which declarations ask for what is put back to be changed again."""
        asked = [step.id for step in self.steps if step.outcome in PLANNED and self._asks(step)]
        if asked:
            named = ", ".join(f"{self._declared[id].source} ({id})" for id in asked[:_NAMED])
            more = f", and {len(asked) - _NAMED} more" if len(asked) > _NAMED else ""
            yield f"the site still asks for what is put back here to be changed again, at {named}{more}"
            yield "change that, else the next `agent apply` does it; the resident agent leaves it until it is changed"

    def _asks(self, step: Step) -> bool:
        own = self._declared.get(step.id)
        if own is None:
            return False
        try:
            return differences(self.targets[step.id], own.resource.desired(self._host)) is not None
        except (ResourceError, OSError):
            return True


def _leave(step: Step, why: str) -> None:
    """It is left as it is: only people can put it back."""
    step.outcome, step.cause, step.note, step.outside = SKIPPED, None, why, True


def _differs(journal: Journal, actual: State | None, target: State | None, ignored: Sequence[str]) -> bool:
    now, wanted = (json.loads(journal.comparable(state)) for state in (actual, target))
    if now is None or wanted is None:
        return now is not wanted
    return any(now.get(name) != wanted.get(name) for name in {*now, *wanted}.difference(ignored))
