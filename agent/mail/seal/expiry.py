"""Which accounts' keys expire soon, and telling the accounts while they can still be told."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from agent.errors import AgentError
from agent.host.openpgp.keys import day
from agent.host.run import run
from agent.mail.seal.keys import Keys, NoKey
from agent.mail.seal.ledger import write

THRESHOLDS = (7, 14, 30)
"""Days before the end at which an account is told."""
_DAY = 86400.0
_NAME = "told-of-expiry.json"


@dataclass(frozen=True, slots=True)
class Expiring:
    """An account whose key ends soon (`until`, in seconds since the epoch), or has no usable one (`problem`)."""

    account: str
    until: float = 0.0
    problem: str = ""
    threshold: int = 0
    fingerprint: str = ""

    def __str__(self) -> str:
        return f"{self.account}: " + (self.problem or f"its key expires on {day(self.until)}")


def expiring(keys: Keys) -> list[Expiring]:
    """All accounts with something to be done about their key. Raises ResourceError where that cannot be read."""
    keys.refresh()
    found = []
    for account in sorted(keys.recipients.accounts):
        try:
            key = keys.key(account)
        except NoKey as error:
            found.append(Expiring(account, problem=str(error)))
            continue
        until = key.usable_until
        left = (until - keys.now()) / _DAY if until != inf else inf
        threshold = next((days for days in THRESHOLDS if left <= days), 0)
        if threshold:
            found.append(Expiring(account, until, threshold=threshold, fingerprint=key.fingerprint))
    return found


def tell(found: list[Expiring], folder: str, send: Callable[[str, str], None]) -> list[str]:
    """Mail each account once for each threshold; those whose key is unusable would not get it. Gives who was told."""
    path = os.path.join(folder, _NAME)
    told: dict[str, list[float]] = {}
    with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
        told = json.load(file)  # else they are told once more
    kept, now_told = {}, []
    try:
        for each in found:
            mark = [each.until, each.threshold]
            before = told.get(each.account)
            if each.problem:
                continue
            if not (before and before[0] == each.until and before[1] <= each.threshold):
                send(each.account, _letter(each))
                now_told.append(each.account)
                before = None
            kept[each.account] = before or mark
    finally:
        _keep(path, {**told, **kept} if len(kept) < len(found) else kept)
    return now_told


def _keep(path: str, told: dict[str, list[float]]) -> None:
    try:
        write(path, json.dumps(told, indent=1) + "\n")
    except OSError as error:
        raise AgentError(
            f"{path} cannot be written: {error.strerror}", hint="who was told will be told again"
        ) from None


def _letter(each: Expiring) -> str:
    return (
        f"From: postmaster@{each.account.rpartition('@')[2]}\n"  # of the domain, so that it is signed
        f"To: {each.account}\n"
        f"Subject: Your OpenPGP key expires on {day(each.until)}\n"
        "Auto-Submitted: auto-generated\n"
        "Content-Type: text/plain; charset=utf-8\n"
        "\n"
        f"Mail for {each.account} is stored encrypted to your OpenPGP key, which expires on {day(each.until)}.\n"
        "From then on mail for you will be put off, and a few days later refused.\n"
        "\n"
        "Give the key a later date:\n"
        "\n"
        f"    gpg --quick-set-expire {each.fingerprint} 2y\n"
        f"    gpg --quick-set-expire {each.fingerprint} 2y '*'\n"
        f"    gpg --armor --export {each.fingerprint} > key.asc\n"
        "\n"
        "and send key.asc to whoever keeps this server, who has it taken in the old one's place:\n"
        "\n"
        f"    sudo agent account key {each.account} --key key.asc\n"
    )


def sendmail(account: str, letter: str) -> None:
    """Send a letter. Raises CommandFailed where sendmail does not take it."""
    run(["/usr/sbin/sendmail", "-i", "-f", "<>", "--", account], stdin=letter, timeout=60)
