"""`agent graph`: the dependency graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.options import Common, common_options, complete_target
from agent.errors import UsageError

if TYPE_CHECKING:
    from agent.graph import Entry


@click.command(
    epilog="Examples:\n\n\b\n  agent graph > site.dot             DOT (Graphviz)\n"
    "  agent graph --output site.svg      SVG\n"
    "  agent graph state:postfix | dot -Tpng > postfix.png",
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=complete_target)
@click.option("--output", "-o", metavar="FILE", help="Write an SVG (FILE.svg) or DOT (FILE.dot).")
@click.option("--svg", is_flag=True, help="Write the SVG to stdout.")
@common_options
def graph(targets: tuple[str, ...], output: str | None, svg: bool, common: Common) -> int:
    """Draw the dependency graph: DOT on stdout, or SVG.

    Dashed are requirements that no declaration names, blue is what a resource listens to. The SVG is drawn by Graphviz
    where that is installed, else in plain columns.
    """
    from agent.engine.targets import select
    from agent.report.graph import document, dot

    if output is not None and not output.endswith((".svg", ".dot")):
        raise UsageError(f"{output} is neither an .svg nor a .dot file", hint="the name's end says what is written")
    entries = select(common.desired.entries, targets)
    as_picture = svg or (output is not None and output.endswith(".svg"))
    text = "" if common.as_json and output is None else _picture(entries) if as_picture else dot(entries)
    if output is not None:
        try:
            Path(output).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{output} cannot be written: {error.strerror}") from None
    if common.as_json:
        from agent.report.plain import dumps

        print(dumps(document(common.shown_site, entries)))
    elif output is None:
        print(text, end="")
    return 0


def _picture(entries: Sequence[Entry]) -> str:
    """SVG, drawn by Graphviz where it is installed."""
    from agent.errors import Missing
    from agent.host.run import find_program, run
    from agent.report.graph import dot
    from agent.report.svg import svg

    try:
        program = find_program("dot")
    except Missing:
        return svg(entries)
    return run([program, "-Tsvg"], stdin=dot(entries)).stdout
