"""Options that the commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from agent.cli.common import Common, default_site, shipped_site, shipped_states

__all__ = [
    "Common",
    "Function",
    "common_options",
    "complete_target",
    "default_site",
    "shipped_site",
    "shipped_states",
]

Function = TypeVar("Function", bound=Callable[..., Any])


def common_options(function: Function) -> Function:
    """Add the common options to a command; it gets them as one argument `common`."""

    def command(*args: Any, **given: Any) -> Any:
        above = click.get_current_context().find_root().obj or {}
        own = {name: given.pop(name) for name in Common.__dataclass_fields__}
        common = Common(**{name: own[name] or above.get(name) or own[name] for name in own})
        return function(*args, common=common, **given)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    options = [
        click.option("--debug", is_flag=True, help="Show a traceback with an error."),
        click.option("--no-color", is_flag=True, help="Write no colours (as the NO_COLOR variable does)."),
        click.option("--verbose", "-v", is_flag=True, help="Show more."),
        click.option("--quiet", "-q", is_flag=True, help="Show only what went wrong."),
        click.option("--json", "as_json", is_flag=True, help="Write one JSON document to stdout, and nothing else."),
        click.option(
            "--state-dir",
            type=click.Path(),
            metavar="PATH",
            help="Journal, backups, lock and socket [env: AGENT_STATE_DIR; "
            "default: /var/lib/state-agent, /run/state-agent].",
        ),
        click.option(
            "--site",
            type=click.Path(),
            metavar="PATH",
            help="The site file [default: /etc/state-agent/site.toml, else ./site.toml].",
        ),
    ]
    for option in options:
        command = option(command)
    return command  # type: ignore[return-value]


def complete_target(ctx: click.Context, _param: click.Parameter, typed: str) -> list[str]:
    """Resources, kinds and states of the site, for completion in a shell. Silent where the site cannot be read."""
    from agent.errors import AgentError

    try:
        common = Common(site=ctx.params.get("site"), state_dir=ctx.params.get("state_dir"))
        desired = common.desired
    except AgentError:
        return []
    words = [entry.id for entry in desired.entries]
    words += [f"{kind}:*" for kind in dict.fromkeys(entry.resource.kind for entry in desired.entries)]
    words += [f"state:{name}" for name in dict.fromkeys((*desired.states, *(each.state for each in desired.entries)))]
    return [word for word in words if word.startswith(typed)]
