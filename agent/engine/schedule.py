"""The order of work: as planned, except that changes which are carried out in one go come as early as they can.

Every apt resource is at the level of how many apt transactions must come before it: one whose requirements hold
an apt change behind something else (a package, its configuration file, a package that needs that file) is one level up.
All of one level make one transaction, after everything else that they need; that is the smallest number of transactions
which the graph allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from agent.engine.step import Step
from agent.resource import Groupable


def batches(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """The steps in the order of work; steps of one batch are carried out together."""
    by_id = {step.id: step for step in steps}
    levels = _levels(steps, by_id)
    done: set[str] = set()
    for step in steps:
        if step.id in done:
            continue
        if not _is_grouped(step):
            done.add(step.id)
            yield [step]
            continue
        group = [
            other
            for other in steps
            if _is_grouped(other) and _same(other, step) and levels[other.id] == levels[step.id]
        ]
        needed = _needed(group, by_id)
        for other in steps:
            if other.id in needed and other.id not in done and other not in group:
                done.add(other.id)
                yield [other]
        done.update(other.id for other in group)
        yield group


def _is_grouped(step: Step) -> bool:
    return isinstance(step.entry.resource, Groupable) and step.changes_something


def _same(one: Step, other: Step) -> bool:
    return one.entry.resource.kind == other.entry.resource.kind


def _levels(steps: Sequence[Step], by_id: Mapping[str, Step]) -> dict[str, int]:
    levels: dict[str, int] = {}
    for step in steps:
        level = 0
        for id in step.entry.requires:
            other = by_id.get(id)
            if other is not None:
                beyond = _is_grouped(other) and not (_is_grouped(step) and _same(step, other))
                level = max(level, levels[id] + beyond)
        levels[step.id] = level
    return levels


def _needed(group: Sequence[Step], by_id: Mapping[str, Step]) -> set[str]:
    found: set[str] = set()
    stack = [id for step in group for id in step.entry.requires]
    while stack:
        id = stack.pop()
        if id in by_id and id not in found:
            found.add(id)
            stack.extend(by_id[id].entry.requires)
    return found
