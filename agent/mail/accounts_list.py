"""The accounts of a site with what is to be said of their keys."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from agent.host.openpgp.keys import day
from agent.host.openpgp.table import Wanted, resolved
from agent.mail.accounts_keys import problem, warning
from agent.mail.accounts_site import Account

_NONE = Wanted("", problem="no key is declared with it")


def rows(accounts: Sequence[Account]) -> list[dict[str, Any]]:
    """One row for each account; gpg takes all keys apart in one go."""
    with_key = [each for each in accounts if each.key]
    tables = [{"file": each.key} | ({"fingerprint": each.fingerprint} if each.fingerprint else {}) for each in with_key]
    found = {id(each): wanted for each, wanted in zip(with_key, resolved(tables), strict=True)}
    return [_row(each, found.get(id(each), _NONE)) for each in accounts]


def _row(account: Account, wanted: Wanted) -> dict[str, Any]:
    key = wanted.key
    until = key.usable_until if key is not None else inf
    return {
        "email": account.email,
        "aliases": list(account.aliases),
        "key": account.key,
        "fingerprint": wanted.fingerprint or account.fingerprint,
        "expires": None if until == inf else day(until),
        "problem": wanted.problem or (problem(key, account.email) if key is not None else "") or None,
        "warning": (warning(key) or None) if key is not None else None,
        "source": account.source,
    }
