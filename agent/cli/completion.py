"""`agent completion`: scripts that complete commands, options and targets in a shell."""

from __future__ import annotations

import click

from agent.cli.options import Common, common_options


@click.command(
    epilog="Examples:\n\n\b\n  agent completion bash > /usr/share/bash-completion/completions/agent\n"
    "  agent completion zsh > /usr/share/zsh/vendor-completions/_agent\n"
    "  agent completion fish > /usr/share/fish/vendor_completions.d/agent.fish",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common_options
def completion(shell: str, common: Common) -> int:  # noqa: ARG001
    """Print the completion script for a shell."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    from agent.cli.main import cli

    print(found(cli, {}, "agent", "_AGENT_COMPLETE").source())
    return 0
