"""What two resources make of one thing in contradiction: each apply would undo what the last one did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent.declaration.drafts import Draft
from agent.errors import Problem
from agent.resources import kind_class


def check_claims(drafts: Mapping[str, Draft]) -> Iterator[Problem]:
    """Problems of things that several resources claim, not all of them alike."""
    claimed: dict[str, tuple[str, Draft]] = {}
    for draft in drafts.values():
        for thing, claim in kind_class(draft.declaration.kind)(**draft.fields).claims():
            other, first = claimed.setdefault(thing, (claim, draft))
            if other != claim:
                message = f"{thing} {claim} here, and {other} by {first.id} at {first.source}"
                yield draft.declaration.document.problem(message, draft.declaration.path)
