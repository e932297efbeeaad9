"""`agent validate`: read and type-check the whole site."""

from __future__ import annotations

import click

from agent.cli.options import Common, common_options, shipped_states


@click.command(epilog="Examples:\n\n\b\n  agent validate\n  agent validate --site ./site.toml --json")
@common_options
def validate(common: Common) -> int:
    """Read and type-check the whole site, with no access to the host and without root.

    Every error is listed at once, with file, line and key. Exit status 3 if there is any.
    """
    from agent.declaration.compile import compile_site

    desired, _, _ = compile_site(common.site_path, shipped_states())
    if common.as_json:
        from agent.report.plain import VERSION, dumps

        document = {"version": VERSION, "mode": "validate", "site": common.shown_site, "problems": []}
        print(dumps(document | {"states": list(desired.states), "resources": len(desired.entries)}))
    elif not common.quiet:
        resources, states = len(desired.entries), len(desired.states)
        counted = f"{resources} resource{'s' * (resources != 1)}, {states} state{'s' * (states != 1)}"
        print(f"{common.shown_site} is valid: {counted}")
    return 0
