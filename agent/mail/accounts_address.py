"""Addresses of accounts: which may be had, in the one spelling in which they are compared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from agent.errors import UsageError
from agent.fields import hostname
from agent.mail.accounts_site import Account

_LOCAL = re.compile(r"[a-z0-9_][a-z0-9_-]*(\.[a-z0-9_-]+)*")
_LONGEST_LOCAL = 64
_LONGEST = 254


def address(text: str) -> str:
    """An address in lower case; raises UsageError for one that no account and no alias can have.

    It becomes the name of files and folders and stands in tables of other programs, so it is made of few characters.
    """
    if not text.isascii():  # before anything is put into lower case: the Kelvin sign would become a "k"
        raise UsageError(
            f"{_quoted(text)} has other letters than a to z", hint='a domain is written in its "xn--" form'
        )
    local, at, domain = text.lower().rpartition("@")
    if not at or not local:
        raise UsageError(f"{_quoted(text)} is not a mail address", hint='write all of it: "name@domain"')
    if "+" in local:
        raise UsageError(
            f'{_quoted(text)}: no address of its own can have a "+"',
            hint=f'what follows "+" is the reader\'s to choose: {local.partition("+")[0]}@… gets that mail already',
        )
    if not _LOCAL.fullmatch(local):
        raise UsageError(
            f'{_quoted(text)}: what stands before the "@" is made of letters (a to z), digits, "_", "-" and "."',
            hint='it begins with a letter, a digit or "_", and no "." stands beside another or at its end',
        )
    try:
        hostname(domain)
    except ValueError:
        raise UsageError(f'{_quoted(text)}: what stands behind the "@" is not a domain') from None
    if domain.endswith("."):
        raise UsageError(f'{_quoted(text)} ends with a "."')
    if len(local) > _LONGEST_LOCAL or len(local) + 1 + len(domain) > _LONGEST:
        raise UsageError(
            f"{_quoted(text)} is too long: at most {_LONGEST_LOCAL} characters before the @, {_LONGEST} in all"
        )
    return f"{local}@{domain}"


def _quoted(text: str) -> str:
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return f'"{shown if len(shown) <= 80 else shown[:79] + "…"}"'


def check_free(email: str, domain: str, accounts: Iterable[Account]) -> None:
    """Raise UsageError where an address is not of this site's domain, or somebody's already."""
    _check_domain(email, domain)
    for account in accounts:
        if email == account.email:
            raise UsageError(
                f"there is an account {email} already, declared at {account.source}",
                hint=f"its password: agent account passwd {email}; its key: agent account key {email} --key FILE",
            )
        if email in account.aliases:
            raise UsageError(f"{email} is an alias of {account.email} already ({account.source})")


def check_aliases(email: str, aliases: Sequence[str], domain: str, accounts: Iterable[Account]) -> None:
    """Raise UsageError for an alias that is an account's own address: its mail would go in circles, or elsewhere.

    One alias of several accounts is none: each of them gets that mail.
    """
    owners = {account.email: account.source for account in accounts}
    for alias in aliases:
        _check_domain(alias, domain)
        if alias == email:
            raise UsageError(f"{alias} cannot be an alias of itself")
        if alias in owners:
            raise UsageError(f"{alias} cannot be an alias: it is an account ({owners[alias]})")


def _check_domain(email: str, domain: str) -> None:
    if email.rpartition("@")[2] != domain:
        raise UsageError(f"{email} is not an address of {domain}, this site's domain")
