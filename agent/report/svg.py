"""The dependency graph as SVG, for where Graphviz is not installed: in columns, what is required on the left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

from agent.graph import Entry
from agent.report.graph import Edge, edges
from agent.report.plain import visible

_ROW, _BOX, _GAP, _LETTER, _MARGIN = 30, 20, 90, 6.3, 20
_STROKES: Mapping[str, str] = {
    "requires": 'stroke="#666"',
    "implied": 'stroke="#999" stroke-dasharray="4 3"',
    "listens": 'stroke="#05c"',
}


def svg(entries: Sequence[Entry]) -> str:
    """A picture of the graph; colours and dashes as in `dot`."""
    return "\n".join(_lines(entries)) + "\n"


def _lines(entries: Sequence[Entry]) -> Iterator[str]:
    drawn = list(edges(entries))
    columns = _columns(entries, drawn)
    places: dict[str, tuple[float, float, float]] = {}
    left = float(_MARGIN)
    for column in columns:
        width = max(len(visible(id)) for id in column) * _LETTER + 12
        places.update({id: (left, _MARGIN + row * _ROW, width) for row, id in enumerate(column)})
        left += width + _GAP
    height = _MARGIN * 2 + max((len(column) for column in columns), default=0) * _ROW
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{max(left - _GAP, 0) + _MARGIN:.0f}" height="{height}"'
        ' font-family="sans-serif" font-size="11">'
    )
    for edge in drawn:
        yield _curve(edge, places)
    for entry in entries:
        x, y, width = places[entry.id]
        yield f"<g><title>{escape(visible(f'{entry.id} ({entry.state}, {entry.source})'))}</title>"
        yield f'<rect x="{x:.0f}" y="{y}" width="{width:.0f}" height="{_BOX}" rx="5" fill="#fff" stroke="#333"/>'
        yield f'<text x="{x + 6:.0f}" y="{y + 14}">{escape(visible(entry.id))}</text></g>'
    yield "</svg>"


def _columns(entries: Sequence[Entry], drawn: Sequence[Edge]) -> list[list[str]]:
    """Ids by how many requirements stand before them at most; `entries` have requirements first."""
    depths: dict[str, int] = {}
    needed: dict[str, list[str]] = {}
    for edge in drawn:
        needed.setdefault(edge.dependent, []).append(edge.required)
    columns: list[list[str]] = []
    for entry in entries:
        depth = max((depths[id] + 1 for id in needed.get(entry.id, ()) if id in depths), default=0)
        depths[entry.id] = depth
        while len(columns) <= depth:
            columns.append([])
        columns[depth].append(entry.id)
    return columns


def _curve(edge: Edge, places: Mapping[str, tuple[float, float, float]]) -> str:
    """From the right side of what is required to the left side of what needs it."""
    x, y, width = places[edge.required]
    start, end = x + width, places[edge.dependent][0]
    above, below = y + _BOX / 2, places[edge.dependent][1] + _BOX / 2
    bend = _GAP / 2
    path = (
        f"M{start:.0f} {above:.0f} C{start + bend:.0f} {above:.0f} {end - bend:.0f} {below:.0f} {end:.0f} {below:.0f}"
    )
    return f'<path d="{path}" fill="none" {_STROKES[edge.why]}/>'
