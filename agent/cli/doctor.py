"""`agent doctor`: the acceptance checks of the site's states, and on a mail host the end-to-end mail test."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import click

from agent.cli.options import Common, common_options, shipped_states
from agent.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from agent.declaration.desired import Desired
    from agent.report.progress import Progress

Rows = Iterator[dict[str, Any]]
_MAIL = "mail"
_WORDS = {"passed": ("32", "pass"), "failed": ("31;1", "FAIL"), "warned": ("33;1", "warn"), "skipped": ("36", "skip")}


@click.command(
    epilog="Examples:\n\n\b\n  sudo agent doctor\n  sudo agent doctor postfix dovecot --json\n"
    "  sudo agent doctor mail\n  sudo agent doctor mail --send-to me@elsewhere.example"
)
@click.argument("states", nargs=-1, metavar="[STATE|mail]...")
@click.option("--no-mail", is_flag=True, help="Leave the end-to-end mail test out.")
@click.option("--send-to", metavar="ADDRESS", default="", help="Also send a real message there, and tell the answer.")
@click.option(
    "--probe-domain",
    metavar="DOMAIN",
    default="gmail.com",
    show_default=True,
    help="Whose mail server is connected to, to see whether port 25 goes out; empty: nobody's.",
)
@common_options
def doctor(states: tuple[str, ...], no_mail: bool, send_to: str, probe_domain: str, common: Common) -> int:
    """Run the acceptance checks (kind `check`) that the site's states declare, and test the mail server end to end.

    Where the site makes a mail server with accounts, messages are sent to them as from outside, followed into their
    mailboxes and removed again; `mail` means this test alone, STATE the checks of a state alone. It takes a minute or
    two: strangers are put off at first.

    Exit status 0 if nothing failed (there may be warnings), 1 if anything did.
    """
    from agent.report.progress import Progress

    desired = common.desired
    mail = _is_wanted(states, no_mail, send_to, desired)
    own = [state for state in states if state != _MAIL]
    results: list[dict[str, Any]] = []
    with Progress(quiet=common.quiet or common.as_json, colour=not common.no_color) as progress:
        if own or not states:
            results += _checks(own, desired, progress)
        if mail:
            _end_at_signals()
            results += _mail(common, desired, progress, send_to, probe_domain)
    _print(results, common)
    return 1 if any(result["outcome"] == "failed" for result in results) else 0


def _is_wanted(states: tuple[str, ...], no_mail: bool, send_to: str, desired: Desired) -> bool:
    """Whether the mail test is to be run. Raises UsageError where it is asked for and cannot be."""
    from agent.fields import email
    from agent.mail.doctor.examine import is_mail_host

    try:
        email(send_to or "nobody@localhost")
    except ValueError as error:
        raise UsageError(f"--send-to: {error}") from None
    asked = _MAIL in states or bool(send_to)
    if asked and no_mail:
        raise UsageError("--no-mail leaves out what is asked for")
    if asked and not is_mail_host(set(desired.states)):
        raise UsageError("this site makes no mail server", hint="the mail test is for one with postfix and dovecot")
    return not no_mail and (asked or not states) and is_mail_host(set(desired.states))


def _checks(states: list[str], desired: Desired, progress: Progress) -> Rows:
    """The results of the checks that these states declare, all states where none is named."""
    from agent.engine.targets import select
    from agent.resource import Checking

    targets = [state if ":" in state else f"state:{state}" for state in states]
    entries = [entry for entry in select(desired.entries, targets, needs=False) if isinstance(entry.resource, Checking)]
    if states and not entries:
        raise UsageError(f"no check is declared in {', '.join(states)}")
    for entry in entries:
        progress.task(entry.id)
        yield _result(entry, desired.secrets.hide)


def _result(entry: Any, hide: Callable[[str], str]) -> dict[str, Any]:
    from agent.host import Host

    started = time.perf_counter()
    result = {"id": entry.id, "state": entry.state, "source": entry.source, "outcome": "passed", "passed": True}
    result |= {"seen": None, "error": None, "hint": None}
    try:
        result["seen"] = hide(entry.resource.check(Host()))
    except (ResourceError, OSError) as error:
        result |= {"outcome": "failed", "passed": False, "error": hide(str(error)), "hint": _advice(entry)}
    return result | {"duration_s": round(time.perf_counter() - started, 3)}


def _advice(entry: Any) -> str:
    """What to do about a check that failed: have its state put right, then look at the services that it needs."""
    units = [each.removeprefix("service:") for each in entry.resource.requires if each.startswith("service:")]
    look = [f"systemctl status {unit}; journalctl -u {unit}" for unit in units]
    return "; ".join([f"agent apply state:{entry.state}", *look])


def _mail(common: Common, desired: Desired, progress: Progress, send_to: str, probe_domain: str) -> Rows:
    """What the mail test finds."""
    from agent.mail.doctor.examine import examine
    from agent.mail.doctor.finding import FAILED, SKIPPED
    from agent.mail.doctor.site import MailHost, Parameters

    row: dict[str, Any] = {"state": _MAIL, "source": None}
    if os.geteuid() != 0:
        why = "only root can look into mailboxes, queue and keyring"
        row |= {"id": _MAIL, "outcome": SKIPPED, "passed": True, "seen": why, "error": None, "hint": "run it with sudo"}
        yield row | {"duration_s": 0.0}
        return
    progress.task(_MAIL)
    parameters = Parameters(common.site_path, shipped_states())
    mail = MailHost(parameters, desired.entries, say=progress.say, send_to=send_to, probe_domain=probe_domain)
    hide = desired.secrets.hide
    started = time.perf_counter()
    for each in examine(mail):
        bad = each.outcome == FAILED
        seen = hide(each.seen)
        found = {"id": each.id, "outcome": each.outcome, "passed": not bad, "seen": None if bad else seen}
        found |= {"error": seen if bad else None, "hint": hide(each.hint) or None}
        now = time.perf_counter()
        yield row | found | {"duration_s": round(now - started, 3)}
        started = now


def _end_at_signals() -> None:
    """End as at Ctrl-C when asked to end otherwise: test messages are removed on the way out."""

    def end(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def _print(results: list[dict[str, Any]], common: Common) -> None:
    from agent.report.plain import visible
    from agent.report.text import Style

    counts = {outcome: sum(result["outcome"] == outcome for result in results) for outcome in _WORDS}
    if common.as_json:
        from agent.report.plain import VERSION, dumps

        document = {"version": VERSION, "mode": "doctor", "site": common.shown_site, "passed": not counts["failed"]}
        print(dumps(document | {"summary": counts, "checks": results}))
        return
    style = Style(common.colour)
    for result in results:
        outcome = result["outcome"]
        if common.quiet and outcome in ("passed", "skipped"):
            continue
        said = result["source"] or "" if outcome == "failed" else result["seen"] or ""
        print(f"{style.paint(*_WORDS[outcome])} {result['id']:<40} {visible(said)}".rstrip())
        lines = (result["error"] or "").splitlines()
        lines += [f"hint: {result['hint']}"] if result["hint"] else []
        for line in lines:
            print(f"     {visible(line)}")
    if not common.quiet:
        said = [f"{counts['passed']} passed", f"{counts['failed']} failed"]
        said += [f"{counts[outcome]} {outcome}" for outcome in ("warned", "skipped") if counts[outcome]]
        print(", ".join(said) if results else "the site declares no checks")
