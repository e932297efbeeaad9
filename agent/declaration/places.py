"""Paths that several resources claim: two of them at one path, one inside another that goes; what `purge` keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from agent.declaration.drafts import Draft
from agent.errors import Problem
from agent.resources import kind_class

_MOUNT_ON_DIRECTORY = {"gocryptfs", "directory"}


def check_places(drafts: Mapping[str, Draft]) -> Iterator[Problem]:
    """Problems of paths that are claimed twice. Tells purging directories what is declared below them."""
    owners: dict[str, Draft] = {}
    shared: list[tuple[str, Draft]] = []
    made: set[str] = set()
    for draft in drafts.values():
        cls = kind_class(draft.declaration.kind)
        for path in cls(**draft.fields).paths():
            if getattr(cls, "shares_path", False):
                shared.append((path, draft))
            elif path != draft.fields["name"]:
                made.add(path)
            elif path in owners and {draft.declaration.kind, owners[path].declaration.kind} != _MOUNT_ON_DIRECTORY:
                first = owners[path]
                yield _problem(draft, f"{path} is declared twice; the first is {first.id} at {first.source}")
            else:
                owners[path] = draft
    yield from _shared_with_owner(shared, owners)
    yield from _inside_what_goes(owners, shared)
    declared = sorted({*owners, *made, *(path for path, _ in shared)})
    for draft in drafts.values():
        if draft.fields.get("purge"):
            below = draft.fields["name"].rstrip("/") + "/"
            draft.fields["declared"] = [path for path in declared if path.startswith(below)]


def _shared_with_owner(shared: list[tuple[str, Draft]], owners: Mapping[str, Draft]) -> Iterator[Problem]:
    for path, draft in shared:
        if path in owners and draft.declaration.kind == "block":
            owner = owners[path]
            what = f"declares the whole content of {path}" if owner.declaration.kind == "file" else "is no file"
            yield _problem(draft, f"{owner.id} at {owner.source} {what}")


def _inside_what_goes(owners: Mapping[str, Draft], shared: list[tuple[str, Draft]]) -> Iterator[Problem]:
    stays = ("gocryptfs",)  # what was a mount is an ordinary folder then
    gone = {
        path
        for path, draft in owners.items()
        if draft.fields.get("ensure") == "absent" and draft.declaration.kind not in stays
    }
    if not gone:
        return
    for path, draft in (*owners.items(), *shared):
        if draft.fields.get("ensure") == "absent":
            continue
        for parent in PurePosixPath(path).parents:
            if str(parent) in gone:
                owner = owners[str(parent)]
                yield _problem(draft, f"{path} lies in {owner.id}, which is declared absent at {owner.source}")


def _problem(draft: Draft, message: str) -> Problem:
    return draft.declaration.document.problem(message, draft.declaration.path)
