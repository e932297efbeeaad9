"""References between resources: exact, by pattern, to a whole state; and those to what was left out."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from agent.declaration import listing
from agent.declaration.document import nearest
from agent.declaration.drafts import Draft, Drafts
from agent.declaration.lines import KeyPath
from agent.declaration.schema import identity
from agent.declaration.site import SITE, Site
from agent.graph import Entry
from agent.resource import LISTENING
from agent.resources import KINDS, kind_class


class References:
    """Resolves what drafts refer to. Problems go to the site's list."""

    def __init__(self, site: Site, drafts: Drafts) -> None:
        self._site = site
        self._problems = site.reader.problems
        self._drafts = drafts
        self._states = [state.name for state in site.states if state.name != SITE]

    def entry(self, draft: Draft) -> Entry:
        """The entry of a draft in the graph, with the ids of all that it refers to."""
        requires: dict[str, None] = {}
        for key in ("requires", *LISTENING):
            references = draft.fields.get(key)
            if references:
                found = [id for i, each in enumerate(references) for id in self._resolved(draft, each, (key, i))]
                draft.fields[key] = list(dict.fromkeys(found))
                requires.update(dict.fromkeys(found))
        resource = kind_class(draft.declaration.kind)(**draft.fields)
        return Entry(resource, draft.state.name, draft.source, list(requires))

    def _resolved(self, draft: Draft, reference: str, at: KeyPath) -> Sequence[str]:
        kind, colon, name = reference.partition(":")
        if not colon or (kind not in KINDS and kind != "state"):
            hint = nearest(kind, (*KINDS, "state")) if colon else 'write "kind:name"'
            self._problem(draft, f'"{reference}" is no reference to a resource', at, hint=hint)
            return []
        if kind == "state":
            return self._of_state(draft, name, at)
        known = self._drafts.by_id
        exact = self._drafts.identities.get(identity(kind, name))
        if exact is not None:
            return [exact]
        pattern = listing.is_glob(name)
        found = [id for id in known if pattern and fnmatch.fnmatchcase(id, reference)]
        if not found and not self._is_left_out(kind, name, pattern):
            self._problem(draft, f'there is no resource "{reference}"', at, hint=nearest(reference, known))
        return [id for id in found if id != draft.id]

    def _of_state(self, draft: Draft, name: str, at: KeyPath) -> Sequence[str]:
        if name not in self._states:
            hint = nearest(name, self._states)
            if name in set(self._site.available()):
                hint = "add it to the needs of this state, or to states in [site]"
            self._problem(draft, f'the site does not select the state "{name}"', at, hint=hint)
            return []
        return [other.id for other in self._drafts.by_id.values() if other.state.name == name and other is not draft]

    def _is_left_out(self, kind: str, name: str, pattern: bool) -> bool:
        reference = f"{kind}:{name}"
        if pattern:
            ids = {*self._drafts.left_out, *self._drafts.open_names}
            return any(fnmatch.fnmatchcase(id, reference) for id in ids)
        if identity(kind, name) in self._drafts.left_out:
            return True
        for open_name in self._drafts.open_names:
            parts = re.split(r"\{\{.*?\}\}", open_name, flags=re.DOTALL)
            if re.fullmatch(".*".join(map(re.escape, parts)), reference, re.DOTALL):
                return True
        return False

    def _problem(self, draft: Draft, message: str, at: KeyPath, *, hint: str = "") -> None:
        declaration = draft.declaration
        self._problems.append(declaration.document.problem(message, (*declaration.path, *at), hint=hint))
