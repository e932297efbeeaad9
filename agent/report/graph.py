"""The dependency graph in DOT, the language of Graphviz (dot(1))."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from agent.graph import Entry
from agent.resource import Refreshable


def dot(entries: Sequence[Entry]) -> str:
    """A directed graph: from each resource to what it requires; dashed where implied, blue where it listens."""
    return "\n".join(_lines(entries)) + "\n"


def _lines(entries: Sequence[Entry]) -> Iterator[str]:
    drawn = {entry.id for entry in entries}
    yield "digraph site {"
    yield "  rankdir = RL;"
    yield '  node [shape = box, fontname = "sans-serif", fontsize = 10, style = "rounded,filled", fillcolor = white];'
    yield "  edge [color = gray40, arrowsize = 0.6];"
    for i, state in enumerate(dict.fromkeys(entry.state for entry in entries)):
        yield f"  subgraph cluster_{i} {{"
        yield f'    label = {_quoted(state)}; fontname = "sans-serif"; color = gray70;'
        yield from (f"    {_quoted(entry.id)};" for entry in entries if entry.state == state)
        yield "  }"
    for entry in entries:
        listens = set(entry.resource.listens_to()) if isinstance(entry.resource, Refreshable) else set()
        for id in entry.requires:
            if id in drawn:
                style = " [style = dashed]" if id in entry.implied else " [color = blue]" if id in listens else ""
                yield f"  {_quoted(entry.id)} -> {_quoted(id)}{style};"
    yield "}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
