"""`agent seal`: encrypts mail to its recipient, as a filter or as the service between Postfix and Dovecot."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

import click

from agent.cli.options import Common, common_options
from agent.errors import UsageError

if TYPE_CHECKING:
    from agent.mail.seal.keys import Keys

_HOME = "/var/opt/gpgit/.gnupg"
_RECIPIENTS = "/etc/state-agent/recipients.json"
_FOLDER = "/var/lib/state-agent-seal"


@click.command(
    epilog="Examples:\n\n\b\n  agent seal ann@example.net < message > sealed\n"
    "  gpg --decrypt encrypted.asc | agent seal --open > message\n"
    "  agent seal --lmtp /run/state-agent-seal/lmtp.sock --to /run/dovecot/lmtp"
)
@click.argument("email", required=False)
@click.option("--lmtp", metavar="SOCKET", help="Serve LMTP on this socket.")
@click.option("--to", metavar="SOCKET", help="With --lmtp: hand sealed messages on to this LMTP socket.")
@click.option("--policy", default="", metavar="SOCKET", help="With --lmtp: answer Postfix's policy queries here.")
@click.option("--group", default="", metavar="GROUP", help="With --lmtp: who may connect, such as postfix.")
@click.option("--grace", default="5d", metavar="DURATION", show_default=True,
              help="With --policy: put mail off so long where there is no usable key, then refuse it.")  # fmt: skip
@click.option("--open", "opens", is_flag=True, help="From decrypted mail on stdin, write the original message.")
@click.option("--expiring", is_flag=True, help="List the accounts whose key expires within 30 days, or is unusable.")
@click.option("--notify", is_flag=True, help="With --expiring: mail each account 30, 14 and 7 days before.")
@click.option("--home", default=_HOME, metavar="PATH", show_default=True, help="GnuPG home with the public keys.")
@click.option("--recipients", default=_RECIPIENTS, metavar="FILE", show_default=True, help="Accounts and aliases.")
@click.option("--folder", default=_FOLDER, metavar="PATH", show_default=True, help="What the service keeps.")
@common_options
def seal(email: str | None, common: Common, **given: Any) -> int:
    """Encrypt mail to its recipient's OpenPGP key.

    With EMAIL: one message from stdin to stdout. What is encrypted already passes as it is. On any failure nothing is
    written. With --lmtp: the service between Postfix and Dovecot, which encrypts to each recipient's key on its own.
    """
    _check(email, given)
    if given["opens"]:
        from agent.mail.seal.original import write_original

        write_original(sys.stdin.buffer, sys.stdout.buffer)
        return 0
    from agent.mail.seal.keys import Keys

    keys = Keys(os.path.abspath(given["home"]), given["recipients"])
    if given["expiring"]:
        return _list_expiring(keys, given["folder"], common, notify=given["notify"])
    if email:
        return _filter(email, keys)
    from agent.mail.seal.service import Settings, serve

    grace = _seconds(given["grace"])
    serve(keys, Settings(given["lmtp"], given["to"], given["policy"], given["group"], given["folder"], grace))
    return 0


def _check(email: str | None, given: dict[str, Any]) -> None:
    if [bool(email), bool(given["lmtp"]), given["opens"], given["expiring"]].count(True) != 1:
        raise UsageError("give one of EMAIL, --lmtp, --open, --expiring", hint="see agent seal --help")
    needs = {"to": "lmtp", "policy": "lmtp", "group": "lmtp", "lmtp": "to", "notify": "expiring"}
    for name, other in needs.items():
        if given[name] and not given[other]:
            raise UsageError(f"--{name} needs --{other}", hint="see agent seal --help")


def _filter(email: str, keys: Keys) -> int:
    from agent.mail.seal.filter import seal as through

    if not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        raise UsageError(f"{email} is not a mail address")
    through(email, keys, sys.stdin.buffer, sys.stdout.buffer)
    return 0


def _list_expiring(keys: Keys, folder: str, common: Common, *, notify: bool) -> int:
    from agent.host.openpgp.keys import day
    from agent.mail.seal.expiry import expiring, sendmail, tell

    found = expiring(keys)
    if common.as_json:
        from agent.report.plain import dumps

        rows = [
            {"account": each.account, "expires": day(each.until) if each.until else None, "problem": each.problem}
            for each in found
        ]
        print(dumps({"version": 1, "mode": "seal", "expiring": rows}))
    else:
        for each in found:
            print(each)
    if notify:
        for account in tell(found, folder, sendmail):
            print(f"told {account}", file=sys.stderr)
    return 0


def _seconds(duration: str) -> float:
    from agent.fields import seconds

    try:
        return float(duration) if re.fullmatch(r"[\d.]+", duration) else seconds(duration)
    except ValueError as error:
        raise UsageError(f"--grace: {error}") from None
