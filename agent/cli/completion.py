"""`agent completion`: scripts that complete commands, options and targets in a shell."""

from __future__ import annotations

import click

from agent.cli.options import Common, common_options

# click's own script takes bash's words, which end at every colon: no target could be completed.
_BASH = r"""_agent_completion() {
    local line="${COMP_LINE:0:COMP_POINT}" words current prefix="" type value
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current="${words[${#words[@]} - 1]}"
    [[ $COMP_WORDBREAKS == *:* && $current == *:* ]] && prefix="${current%"${current##*:}"}"
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$prefix"}") ;;
        esac
    done < <(COMP_WORDS="$line" COMP_CWORD=$((${#words[@]} - 1)) _AGENT_COMPLETE=bash_complete "$1" 2> /dev/null)
}
complete -o nosort -F _agent_completion agent"""


@click.command(
    epilog="Examples:\n\n\b\n  agent completion bash > /usr/share/bash-completion/completions/agent\n"
    "  agent completion zsh > /usr/share/zsh/vendor-completions/_agent\n"
    "  agent completion fish > /usr/share/fish/vendor_completions.d/agent.fish",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common_options
def completion(shell: str, common: Common) -> int:
    """Print the completion script for a shell."""
    script = _BASH if shell == "bash" else _script(shell)
    if common.as_json:
        from agent.report.plain import VERSION, dumps

        script = dumps({"version": VERSION, "mode": "completion", "shell": shell, "script": script})
    print(script)
    return 0


def _script(shell: str) -> str:
    from click.shell_completion import get_completion_class

    from agent.cli.main import cli

    found = get_completion_class(shell)
    assert found is not None
    return found(cli, {}, "agent", "_AGENT_COMPLETE").source()
