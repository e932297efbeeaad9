"""The dependency graph: its edges, and the whole in DOT, the language of Graphviz (dot(1))."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agent.graph import Entry
from agent.report.plain import visible
from agent.resource import Refreshable

_STYLES = {"requires": "", "implied": " [style = dashed]", "listens": " [color = blue]"}


@dataclass(frozen=True, slots=True)
class Edge:
    """What needs what, and why: `requires`, `implied` (no declaration names it), or `listens`."""

    dependent: str
    required: str
    why: str


def edges(entries: Sequence[Entry]) -> Iterator[Edge]:
    """The edges between these entries."""
    drawn = {entry.id for entry in entries}
    for entry in entries:
        listens = set(entry.resource.listens_to()) if isinstance(entry.resource, Refreshable) else set()
        for id in entry.requires:
            if id in drawn:
                yield Edge(
                    entry.id, id, "implied" if id in entry.implied else "listens" if id in listens else "requires"
                )


def document(site: str, entries: Sequence[Entry]) -> dict[str, Any]:
    """The graph as JSON."""
    nodes = [{"id": entry.id, "state": entry.state, "source": entry.source} for entry in entries]
    return {
        "version": 1,
        "mode": "graph",
        "site": site,
        "nodes": nodes,
        "edges": [asdict(edge) for edge in edges(entries)],
    }


def dot(entries: Sequence[Entry]) -> str:
    """A directed graph: from each resource to what it requires; dashed where implied, blue where it listens."""
    return "\n".join(_lines(entries)) + "\n"


def _lines(entries: Sequence[Entry]) -> Iterator[str]:
    yield "digraph site {"
    yield "  rankdir = RL;"
    yield '  node [shape = box, fontname = "sans-serif", fontsize = 10, style = "rounded,filled", fillcolor = white];'
    yield "  edge [color = gray40, arrowsize = 0.6];"
    for i, state in enumerate(dict.fromkeys(entry.state for entry in entries)):
        yield f"  subgraph cluster_{i} {{"
        yield f'    label = {_quoted(state)}; fontname = "sans-serif"; color = gray70;'
        yield from (f"    {_quoted(entry.id)};" for entry in entries if entry.state == state)
        yield "  }"
    for edge in edges(entries):
        yield f"  {_quoted(edge.dependent)} -> {_quoted(edge.required)}{_STYLES[edge.why]};"
    yield "}"


def _quoted(text: str) -> str:
    """A quoted string of DOT, in which only the quotation mark is special, and a backslash in a label."""
    return '"' + visible(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
