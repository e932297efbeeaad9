"""Passwords of accounts: only their hashes are kept, as Dovecot reads them."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from agent.errors import Missing, UsageError

_SHORTEST, _LONGEST = 8, 1024
_SCHEMES = ("ARGON2ID", "ARGON2I", "BLF-CRYPT", "SHA512-CRYPT", "SSHA512", "SHA512", "SHA256-CRYPT")
_HASH = re.compile(rf"\{{({'|'.join(_SCHEMES)})\}}[A-Za-z0-9$./+=,-]{{40,512}}")


@dataclass(frozen=True)
class Password:
    """The hash of a password, and the password itself where it was made here: its owner is still to be told."""

    hash: str
    made: str = ""

    def __repr__(self) -> str:
        return "Password(…)"


def made() -> Password:
    """A password of 120 random bits, in groups that can be read out."""
    text = secrets.token_hex(15)
    clear = "-".join(text[at : at + 5] for at in range(0, len(text), 5))
    return Password(hashed(clear), clear)


def hashed(password: str) -> str:
    """The hash of a password, salted, in the scheme ARGON2ID (RFC 9106)."""
    if len(password) < _SHORTEST:
        raise UsageError(f"the password is too short: at least {_SHORTEST} characters")
    if len(password) > _LONGEST or not password.isprintable():
        raise UsageError(f"a password is at most {_LONGEST} characters, all of them printable and on one line")
    try:
        from argon2 import PasswordHasher
    except ImportError:
        raise Missing("passwords cannot be hashed without argon2", hint="apt install python3-argon2") from None
    # One lane: libsodium, which Dovecot asks, makes no others (its own `doveadm pw` neither).
    return "{ARGON2ID}" + PasswordHasher(time_cost=3, memory_cost=65536, parallelism=1).hash(password)


def ready_hash(text: str) -> str:
    """A hash made elsewhere; raises UsageError where it is none."""
    if not _HASH.fullmatch(text):
        raise UsageError(
            "this is not the hash of a password in a scheme that is taken",
            hint=f"{{SCHEME}}HASH, as `doveadm pw -s ARGON2ID` prints it; schemes are {', '.join(_SCHEMES)}",
        )
    return text
