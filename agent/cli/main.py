"""The `agent` command: turns arguments into calls of the engine; the only room that exits."""

from __future__ import annotations

import contextlib
import os
import sys
from importlib import import_module
from typing import Any

import click

import agent
from agent.cli.surroundings import leave
from agent.errors import AgentError, UsageError

_COMMANDS = {
    "account": "Add, list, change and remove mail accounts",
    "apply": "Bring this host to its desired state, or show what differs (--check)",
    "completion": "Print the completion script for a shell",
    "confirm": "Keep the new firewall rules that `apply --confirm` waits for",
    "dns": "Print the DNS records that the site needs, as a zone file",
    "docs": "Print the reference of a kind's fields or a state's parameters",
    "doctor": "Run the acceptance checks of the site's states, and test a mail server end to end",
    "graph": "Draw the dependency graph",
    "init": "Write a first site",
    "log": "Show the journal: runs, what they changed, and why",
    "rollback": "Put back what a run and those after it changed",
    "seal": "Encrypt mail to its recipient, as a filter or between Postfix and Dovecot",
    "show": "Show the compiled desired state",
    "status": "Show what is in desired state, what drifted and what was repaired",
    "validate": "Read and type-check the whole site, without touching the host",
    "watch": "Stay, and repair drift as it happens",
}


class Commands(click.Group):
    """The commands; each is imported when it is used, so that every one starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"agent.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        if args[0] in _COMMANDS or args[0].startswith("-"):
            return super().resolve_command(ctx, args)
        close = difflib.get_close_matches(args[0], _COMMANDS, n=1)
        meant = f'Did you mean "{close[0]}"?' if close else f"Commands are {', '.join(_COMMANDS)}."
        raise click.UsageError(f'No such command "{args[0]}". {meant}', ctx)


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Examples:\n\n\b\n  agent validate\n  sudo agent apply --check\n  sudo agent apply\n"
    "  sudo agent apply file:/etc/mailname 'state:postfix'\n\nExit status: 0 in desired state, or made so; "
    "1 something failed; 2 --check found changes to make; 3 the declarations or the command line are wrong.",
)
@click.version_option(agent.__version__, prog_name="agent", message="%(prog)s %(version)s")
@click.option("--site", metavar="PATH", hidden=True)
@click.option("--state-dir", metavar="PATH", hidden=True)
@click.option("--json", "as_json", is_flag=True, hidden=True)
@click.option("--quiet", "-q", is_flag=True, hidden=True)
@click.option("--verbose", "-v", is_flag=True, hidden=True)
@click.option("--no-color", is_flag=True, hidden=True)
@click.option("--debug", is_flag=True, hidden=True)
def cli(**options: Any) -> None:
    """Keep one Debian host in the state that its site.toml declares."""
    click.get_current_context().obj = options


def main() -> None:
    """Run the command line and exit with its status; nobody gets a traceback for their own mistake."""
    leave(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    if not arguments and "_AGENT_COMPLETE" not in os.environ:
        print(cli.get_help(click.Context(cli, info_name="agent")), file=sys.stderr)
        return 3
    try:
        result = cli.main(arguments, prog_name="agent", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last line of defence: a bug is told as one
        return told(error, arguments)
    return result if isinstance(result, int) else 0


def told(error: BaseException, arguments: list[str]) -> int:
    """Tell whoever gave these arguments what they came to; gives the exit status."""
    if isinstance(error, click.ClickException):
        return _tell_usage(error, arguments)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        print("aborted", file=sys.stderr)
        return 1
    if isinstance(error, AgentError):
        return _tell(error, arguments)
    if isinstance(error, BrokenPipeError):
        _drop_output()
        return 1
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return _tell(AgentError(f"{where}{error.strerror or error}"), arguments)
    return _tell_bug(error, arguments)


def _drop_output() -> None:
    """Nobody reads stdout any more; what is still to be written at exit must not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell_usage(error: click.ClickException, arguments: list[str]) -> int:
    with contextlib.suppress(OSError):
        if "--json" in arguments:
            _print_error(UsageError(error.format_message()), arguments)
        error.show()
    return 3


def _tell(error: AgentError, arguments: list[str]) -> int:
    if "--debug" in arguments:
        import traceback

        traceback.print_exc()
    _say(error, arguments)
    return error.exit_status


def _tell_bug(error: BaseException, arguments: list[str]) -> int:
    told = AgentError(
        f"internal error: {type(error).__name__}: {error}",
        hint="this is a bug in state-agent; --debug shows where it happened",
    )
    if "--debug" in arguments:
        import traceback

        traceback.print_exc()
    _say(told, arguments)
    return 1


def _say(error: AgentError, arguments: list[str]) -> None:
    """Say what is wrong, on stdout as well with --json, as far as anything can be written there."""
    if "--json" in arguments:
        with contextlib.suppress(OSError):
            _print_error(error, arguments)
    with contextlib.suppress(OSError):
        print(f"agent: {_visible(str(error))}", file=sys.stderr)


def _print_error(error: AgentError, arguments: list[str]) -> None:
    from agent.report.json import error_document
    from agent.report.plain import dumps

    mode = next((word for word in arguments if word in _COMMANDS), "")
    print(dumps(error_document(error, "check" if mode in ("apply", "rollback") and "--check" in arguments else mode)))


def _visible(text: str) -> str:
    from agent.report.plain import visible

    return visible(text)
