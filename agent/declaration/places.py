"""Paths that several resources claim: two of them at one path, one inside another that goes; what `purge` keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from agent.declaration.drafts import Draft
from agent.errors import Problem
from agent.resources import kind_class

_MOST_LINKS = 40
"""As many as the kernel follows in one path (path_resolution(7))."""
_MOUNT_ON_DIRECTORY = {"gocryptfs", "directory"}


def check_places(drafts: Mapping[str, Draft]) -> Iterator[Problem]:
    """Problems of paths that are claimed twice. Tells purging directories what is declared below them."""
    links = _links(drafts)
    owners: dict[str, Draft] = {}
    shared: list[tuple[str, Draft]] = []
    made: set[str] = set()
    for draft in drafts.values():
        cls = kind_class(draft.declaration.kind)
        for written in cls(**draft.fields).paths():
            path = _through(links, written)
            if getattr(cls, "shares_path", False):
                shared.append((path, draft))
            elif written != draft.fields["name"]:
                made.add(path)
            elif path in owners and {draft.declaration.kind, owners[path].declaration.kind} != _MOUNT_ON_DIRECTORY:
                first = owners[path]
                yield _problem(draft, f"{written} is declared twice; the first is {first.id} at {first.source}")
            else:
                owners[path] = draft
    yield from _shared_with_owner(shared, owners)
    yield from _inside_what_goes(owners, shared)
    declared = sorted({*owners, *made, *(path for path, _ in shared)})
    for draft in drafts.values():
        if draft.fields.get("purge"):
            name = draft.fields["name"].rstrip("/") + "/"
            below = _through(links, name)
            draft.fields["declared"] = [name + path[len(below) :] for path in declared if path.startswith(below)]


def _links(drafts: Mapping[str, Draft]) -> dict[str, str]:
    """The declared links and the absolute paths that they point to."""
    links = [kind_class("link")(**draft.fields) for draft in drafts.values() if draft.declaration.kind == "link"]
    return {link.name: link.leads_to() for link in links if link.leads_to()}


def _through(links: Mapping[str, str], path: str) -> str:
    """The path without the declared links that it leads through; links in a circle are followed some way only."""
    for _ in range(_MOST_LINKS):
        parents = path.rstrip("/").split("/")[:-1]
        above = ("/".join(parents[:count]) for count in range(2, len(parents) + 1))
        link = next((parent for parent in above if parent in links), None)
        if link is None:
            break
        path = links[link].rstrip("/") + path[len(link) :]
    return path


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
