"""Public keys of accounts: which can be used, and the form in which they are kept."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import tempfile
import time
from dataclasses import dataclass
from math import inf

from agent.errors import ResourceError, UsageError
from agent.host.openpgp.blocks import Block, key_blocks
from agent.host.openpgp.gnupg import show
from agent.host.openpgp.keys import Key, day
from agent.host.run import run

_GPG = ("--batch", "--no-tty", "--quiet", "--no-options", "--no-permission-warning", "--no-autostart")
_DAY = 86400
_SOON = 30 * _DAY


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that mail can be sealed to: armored, as gpg exports it."""

    fingerprint: str
    armor: bytes
    description: str


def checked(content: bytes, email: str, label: str) -> PublicKey:
    """The one key that a file holds, if mail for an address can be sealed to it; else raises UsageError.

    gpg has the last word: it imports the key into a home of its own and encrypts to it.
    """
    block = _single(content, label)
    key = show([block]).get(block.fingerprint)
    if key is None:
        raise UsageError(f"{label}: gpg cannot read this key")
    wrong = problem(key, email)
    if wrong:
        raise UsageError(f"{label}: {wrong}", hint=_hint(key, email))
    return PublicKey(key.fingerprint, _armored(block, label), str(key))


def _single(content: bytes, label: str) -> Block:
    private = "it is a private key, and nothing of it was kept"
    hint = "a private key stays with its owner; give the public one, from gpg --armor --export ADDRESS"
    if b"BEGIN PGP PRIVATE KEY BLOCK" in content:
        raise UsageError(f"{label}: {private}", hint=hint)
    try:
        blocks = key_blocks(content)
    except ValueError as error:
        raise UsageError(f"{label}: {error}", hint="a public key, as gpg --armor --export ADDRESS writes it") from None
    if any(block.private for block in blocks):
        raise UsageError(f"{label}: {private}", hint=hint)
    if len({block.fingerprint for block in blocks}) > 1:
        listed = "\n".join(block.fingerprint for block in blocks)
        raise UsageError(f"{label}: it holds {len(blocks)} keys, and one is needed", detail=listed)
    return blocks[0]


def problem(key: Key, email: str, now: float | None = None) -> str:
    """What keeps mail for an address from being sealed to a key, or nothing."""
    now = time.time() if now is None else now
    if key.primary.revoked:
        return "this key was revoked"
    if key.primary.expires <= now:
        return f"this key expired on {day(key.primary.expires)}"
    if not key.has_address(email):
        names = ", ".join(key.names) or "none"
        return f"no user id of this key has the address {email}; it has {names}"
    if not key.encryption_parts:
        return "this key can only sign: nothing can be encrypted to it"
    if key.usable_until <= now:
        gone = f"expired on {day(key.usable_until)}" if key.usable_until else "were revoked"
        return f"the subkeys of this key that can encrypt {gone}"
    return ""


def warning(key: Key, now: float | None = None) -> str:
    """What is to be said of a key that can still be used, or nothing."""
    now = time.time() if now is None else now
    left = key.usable_until - now
    return f"expires in {int(left // _DAY)} days" if left != inf and left < _SOON else ""


def _hint(key: Key, email: str) -> str:
    if key.primary.revoked:
        return "its owner has to make a new one"
    if not key.has_address(email):
        return f"its owner adds it with: gpg --quick-add-uid {key.fingerprint} {email}"
    if not key.encryption_parts:
        return f"its owner adds what is missing with: gpg --quick-add-key {key.fingerprint} cv25519 encr"
    return f"its owner renews it with: gpg --quick-set-expire {key.fingerprint} 2y '*', and exports it anew"


def _armored(block: Block, label: str) -> bytes:
    """The key as gpg exports it, after gpg has encrypted to it."""
    with tempfile.TemporaryDirectory(prefix="state-agent-") as home:
        user = None
        with contextlib.suppress(KeyError):  # as in agent.host.openpgp.gnupg: it need not be root who takes a key apart
            if os.geteuid() == 0:
                os.chown(home, pwd.getpwnam("nobody").pw_uid, -1)
                user = "nobody"
        base = ["gpg", "--homedir", home, *_GPG]
        run([*base, "--import"], stdin=block.data, accept=None, user=user, cwd="/")
        recipient = ["--trust-model", "always", "--output", "/dev/null", "--yes", "--encrypt", "--recipient"]
        tried = run([*base, *recipient, block.fingerprint], stdin=b"x", accept=None, user=user, cwd="/")
        if not tried.ended_well:
            raise UsageError(f"{label}: gpg does not encrypt to this key", detail=_said(tried.stderr))
        exported = run([*base, "--armor", "--export", block.fingerprint], accept=None, user=user, cwd="/")
    if "BEGIN PGP PUBLIC KEY BLOCK" not in exported.stdout:
        raise ResourceError(f"{label}: gpg does not export this key", detail=_said(exported.stderr))
    return exported.stdout.encode()


def _said(stderr: str) -> str:
    return "\n".join(re.sub(r"^gpg: ", "", line) for line in stderr.strip().splitlines()[-4:])
