"""`agent doctor`: the acceptance checks of the site's states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from agent.cli.options import Common, common_options
from agent.errors import ResourceError, UsageError


@click.command(epilog="Examples:\n\n\b\n  sudo agent doctor\n  sudo agent doctor postfix dovecot --json")
@click.argument("states", nargs=-1, metavar="[STATE]...")
@common_options
def doctor(states: tuple[str, ...], common: Common) -> int:
    """Run the acceptance checks (kind `check`) that the site's states declare.

    Exit status 0 if all pass, 1 if any fails.
    """
    from agent.engine.targets import select
    from agent.report.progress import Progress
    from agent.resource import Checking

    desired = common.desired
    targets = [state if ":" in state else f"state:{state}" for state in states]
    entries = [entry for entry in select(desired.entries, targets, needs=False) if isinstance(entry.resource, Checking)]
    if states and not entries:
        raise UsageError(f"no check is declared in {', '.join(states)}")
    results = []
    with Progress(quiet=common.quiet or common.as_json, colour=not common.no_color) as progress:
        for entry in entries:
            progress.task(entry.id)
            results.append(_result(entry, desired.secrets.hide))
    _print(results, common)
    return 1 if any(not result["passed"] for result in results) else 0


def _result(entry: Any, hide: Callable[[str], str]) -> dict[str, Any]:
    import time

    from agent.host import Host

    started = time.perf_counter()
    result = {"id": entry.id, "state": entry.state, "source": entry.source, "passed": True, "seen": None, "error": None}
    try:
        result["seen"] = hide(entry.resource.check(Host()))
    except (ResourceError, OSError) as error:
        result["passed"], result["error"] = False, hide(str(error))
    return result | {"duration_s": round(time.perf_counter() - started, 3)}


def _print(results: list[dict[str, Any]], common: Common) -> None:
    from agent.report.text import Style, visible

    failed = sum(not result["passed"] for result in results)
    if common.as_json:
        from agent.report.json import dumps

        document = {"version": 1, "mode": "doctor", "site": common.shown_site, "passed": not failed, "checks": results}
        print(dumps(document))
        return
    style = Style(common.colour)
    for result in results:
        if result["passed"] and common.quiet:
            continue
        word = style.paint("32", "pass") if result["passed"] else style.paint("31;1", "FAIL")
        print(f"{word} {result['id']:<40} {visible(result['seen'] or '') if result['passed'] else result['source']}")
        for line in (result["error"] or "").splitlines():
            print(f"     {visible(line)}")
    if not common.quiet:
        print(f"{len(results) - failed} passed, {failed} failed" if results else "the site declares no checks")
