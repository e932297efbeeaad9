"""`agent dns`: the DNS records that the site needs, as a zone file, or compared with DNS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from agent.cli.options import Common, common_options

if TYPE_CHECKING:
    from agent.mail.zone import Wanted


@click.command(
    epilog="Examples:\n\n\b\n  sudo agent dns\n  sudo agent dns > example.net.zone\n  sudo agent dns --check"
)
@click.option("--check", is_flag=True, help="Ask DNS which of them are there. Exit status 2 if any is not.")
@common_options
def dns(check: bool, common: Common) -> int:
    """Print the DNS records that the site needs, as a zone file without SOA and NS.

    Values that only come into being during apply, such as that of a DKIM key, are comments until then. With --check
    the nameservers of the zone are asked, and records are listed as there, missing or differing; exit status 2 if
    any is missing or differs, else 1 if any could not be asked.
    """
    from agent.host import Host
    from agent.mail.zone import compare, text, wanted

    host = Host()
    records = wanted(common.desired.entries, host)
    if check:
        compare(records, host)
    if common.as_json:
        _print_json(records, common)
    elif check:
        _print_check(records, common)
    elif records:
        print("\n".join(text(records)))
    elif not common.quiet:
        print("; the site declares no DNS records")
    return _status(records) if check else 0


def _status(records: Sequence[Wanted]) -> int:
    from agent.mail.zone import DIFFERS, MISSING, UNKNOWN

    states = {each.state for each in records}
    return 2 if states & {MISSING, DIFFERS} else 1 if UNKNOWN in states else 0


def _print_json(records: Sequence[Wanted], common: Common) -> None:
    from agent.mail.zone import lines, origin
    from agent.report.plain import VERSION, dumps

    rows: list[dict[str, Any]] = [
        {
            "name": each.name,
            "type": each.type,
            "ensure": each.resource.ensure,
            "ttl": each.resource.seconds_to_live,
            "values": each.values,
            "lines": lines(each, ""),
            "state": each.state,
            "found": each.found,
            "note": each.note or None,
            "source": each.source,
        }
        for each in records
    ]
    document = {"version": VERSION, "mode": "dns", "site": common.shown_site, "origin": origin(records)}
    print(dumps(document | {"records": rows}))


def _print_check(records: Sequence[Wanted], common: Common) -> None:
    from agent.mail.zone import DIFFERS, MISSING, THERE, UNKNOWN, lines
    from agent.report.plain import visible
    from agent.report.text import Style

    style = Style(common.colour)
    colours = {THERE: "32", MISSING: "31;1", DIFFERS: "33;1", UNKNOWN: "36"}
    for each in records:
        state = each.state or UNKNOWN
        if common.quiet and state == THERE:
            continue
        padded = f"{state:<8}"
        print(f"{style.paint(colours[state], padded)} {each.name} {each.type}{visible(each.note and f': {each.note}')}")
        if state in (MISSING, DIFFERS):
            for line in lines(each, "") if each.resource.ensure == "present" else []:
                print(f"         wanted: {visible(line)}")
            for value in each.found:
                print(f"         found:  {visible(value)}")
    if not common.quiet:
        counts = [(state, sum(each.state == state for each in records)) for state in colours]
        said = ", ".join(f"{count} {state}" for state, count in counts if count)
        print(said or "the site declares no DNS records")
