"""`agent docs`: the reference, generated from the code."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.options import Common, common_options, shipped_states
from agent.errors import UsageError


@click.command(
    epilog="Examples:\n\n\b\n  agent docs            kinds and states\n  agent docs file       fields of a kind\n"
    "  agent docs postfix    parameters of a state",
)
@click.argument("subject", required=False, metavar="[KIND|STATE]")
@click.option("--write", metavar="FOLDER", help="Write all pages of kinds and shipped states into a folder.")
@common_options
def docs(subject: str | None, write: str | None, common: Common) -> int:
    """Print the reference of a kind's fields or a state's parameters, in Markdown."""
    from agent.declaration.document import nearest
    from agent.report.reference import index, kind_page, state_page, states_in
    from agent.resources import KINDS

    if write is not None:
        _write_pages(Path(write))
        return 0
    trees = [tree for tree in (_beside_site(common), shipped_states()) if tree is not None]
    states = states_in(trees)
    if subject is None:
        page = index(states)
    elif subject in KINDS:
        page = kind_page(subject)
    elif subject in states:
        page = state_page(subject, states[subject])
    else:
        raise UsageError(f'there is no kind or state "{subject}"', hint=nearest(subject, (*KINDS, *states)))
    if common.as_json:
        from agent.report.plain import VERSION, dumps

        page = dumps({"version": VERSION, "mode": "docs", "subject": subject, "markdown": page}) + "\n"
    print(page, end="")
    return 0


def _beside_site(common: Common) -> Path | None:
    try:
        return common.site_path.parent / "states"
    except UsageError:
        return None


def _write_pages(folder: Path) -> None:
    from agent.report.reference import pages

    for name, text in pages(shipped_states() or Path("states")).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
