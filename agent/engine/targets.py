"""Targets: which resources of a site a command line means."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from agent.errors import UsageError
from agent.graph import Entry, with_requirements
from agent.resources import KINDS, kind_class


def select(entries: Sequence[Entry], targets: Sequence[str], *, needs: bool = True) -> list[Entry]:
    """The entries that targets mean, and (with `needs`) all that they need, in order; all where none is given.

    A target is `kind:name`, a pattern such as `file:/etc/postfix/*` or `apt:*`, or `state:name`.
    Raises UsageError for a target that means nothing.
    """
    if not targets:
        return list(entries)
    wanted: set[str] = set()
    for target in targets:
        found = _matching(entries, target)
        if not found:
            raise _nothing(entries, target)
        wanted.update(found)
    if needs:
        wanted = with_requirements(entries, wanted)
    return [entry for entry in entries if entry.id in wanted]


def _matching(entries: Sequence[Entry], target: str) -> list[str]:
    kind, _, name = target.partition(":")
    if kind == "state":
        return [entry.id for entry in entries if fnmatch.fnmatchcase(entry.state, name)]
    exact = [entry.id for entry in entries if entry.id == target]
    exact = exact or _same(entries, kind, name)
    if exact:
        return exact
    if name.startswith("/") and "*" not in name:
        target = f"{kind}:/" + "/".join(part for part in name.split("/") if part not in ("", "."))
    return [entry.id for entry in entries if fnmatch.fnmatchcase(entry.id, target)]


def _same(entries: Sequence[Entry], kind: str, name: str) -> list[str]:
    """The entries whose name is another spelling of this one, such as `cron.service` for `cron`."""
    identity = getattr(kind_class(kind), "identity", None) if kind in KINDS else None
    if identity is None:
        return []
    return [e.id for e in entries if e.resource.kind == kind and identity(e.resource.name) == identity(name)]


def _nothing(entries: Sequence[Entry], target: str) -> UsageError:
    import difflib

    kind, colon, name = target.partition(":")
    words = [entry.id for entry in entries] + [f"state:{name}" for name in dict.fromkeys(e.state for e in entries)]
    close = difflib.get_close_matches(target, words, n=1, cutoff=0.6)
    if not close and colon and kind not in (*KINDS, "state"):
        close = [f"{word}:{name}" for word in difflib.get_close_matches(kind.lower(), (*KINDS, "state"), n=1)]
    if close:
        hint = f'did you mean "{close[0]}"?'
    elif not colon:
        hint = 'a target is "kind:name", "kind:*" or "state:name"'
    elif kind not in (*KINDS, "state"):
        hint = f"kinds are {', '.join(KINDS)}"
    else:
        hint = "`agent show` lists what the site declares"
    return UsageError(f'no resource is meant by the target "{target}"', hint=hint)
