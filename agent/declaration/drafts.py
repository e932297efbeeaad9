"""Drafts: resources that are valid by themselves, before they are put together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.declaration.lines import KeyPath
from agent.declaration.site import Declaration, StateSource


@dataclass
class Draft:
    """A resource that is valid by itself; its references are not yet resolved."""

    declaration: Declaration
    state: StateSource
    fields: dict[str, Any]

    @property
    def id(self) -> str:
        """Its id as a resource."""
        return f"{self.declaration.kind}:{self.fields['name']}"

    @property
    def source(self) -> str:
        """Where it stands: `file:line`."""
        return self.declaration.source


@dataclass
class Drafts:
    """All drafts of a site by id, and what is known of those that came to nothing.

    `identities` gives ids by what all spellings of each have in common; `left_out` are such identities that a false
    `when` left out, `open_names` the unfilled ids of those whose names nobody knows.
    """

    by_id: dict[str, Draft] = field(default_factory=dict)
    identities: dict[str, str] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
    open_names: list[str] = field(default_factory=list)
    templates_of_site: set[Path] = field(default_factory=set)


def tables_with(fields: dict[str, Any], key: str) -> Iterator[tuple[dict[str, Any], KeyPath]]:
    """The tables that hold a key, with its path: `source` among the fields, `keys.file` in each table of a list."""
    outer, _, inner = key.partition(".")
    if not inner and fields.get(outer) is not None:
        yield fields, (outer,)
    for i, table in enumerate(fields.get(outer) or ()) if inner else ():
        if table.get(inner) is not None:
            yield table, (outer, i, inner)
