"""`agent graph`: the dependency graph."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.options import Common, common_options, complete_target
from agent.errors import UsageError


@click.command(
    epilog="Examples:\n\n\b\n  agent graph > site.dot             DOT (Graphviz)\n"
    "  agent graph --output site.svg      SVG\n"
    "  agent graph state:postfix | dot -Tpng > postfix.png",
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=complete_target)
@click.option("--output", "-o", metavar="FILE", help="Write an SVG (FILE.svg), drawn by Graphviz, or DOT (FILE.dot).")
@click.option("--svg", is_flag=True, help="Write the SVG to stdout.")
@common_options
def graph(targets: tuple[str, ...], output: str | None, svg: bool, common: Common) -> int:
    """Draw the dependency graph: DOT on stdout, or SVG through Graphviz."""
    from agent.engine.targets import select
    from agent.host.run import run
    from agent.report.graph import dot

    if output is not None and not output.endswith((".svg", ".dot")):
        raise UsageError(f"{output} is neither an .svg nor a .dot file", hint="the name's end says what is written")
    entries = select(common.desired.entries, targets)
    text = dot(entries)
    if svg or (output is not None and output.endswith(".svg")):
        text = run(["dot", "-Tsvg"], stdin=text).stdout
    if output is None:
        print(text, end="")
        return 0
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}") from None
    return 0
