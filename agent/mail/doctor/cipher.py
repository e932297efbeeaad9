"""Whom a stored message is encrypted to, and whether anybody on this host could decrypt it."""

from __future__ import annotations

import os
import pwd
import re

from agent.host.openpgp.gnupg import keygrips
from agent.host.openpgp.keys import Key
from agent.host.run import run
from agent.mail.doctor.mailbox import field
from agent.mail.seal.keys import DEFAULT_HOME

_ARMOR = re.compile(rb"-----BEGIN PGP MESSAGE-----.*?-----END PGP MESSAGE-----", re.DOTALL)
_TO = re.compile(r"(?m)^\[GNUPG:\] ENC_TO ([0-9A-F]{16})")
_OPTIONS = ("--batch", "--no-tty", "--no-options", "--no-autostart", "--status-fd", "1", "--list-only")


def sealed_to(content: bytes, key: Key) -> tuple[list[str], str]:
    """The ids of the keys that a message is encrypted to, and what is wrong with that (nothing where all is well)."""
    if field(content, "Subject") != "...":
        return [], "its subject can be read outside of the encryption"
    found = _ARMOR.search(content)
    if found is None:
        return [], "it says that it is encrypted, but holds no OpenPGP message"
    said = run(
        ["gpg", "--homedir", DEFAULT_HOME, *_OPTIONS, "--decrypt"], stdin=found[0], accept=None, user="gpgit", cwd="/"
    )
    ids = _TO.findall(said.stdout)
    own = {part.fingerprint[-16:] for part in key.encryption_parts}
    if not ids:
        return [], "it is encrypted to no key that could be told"
    strange = [each for each in ids if each not in own]
    return ids, f"it is also encrypted to {', '.join(strange)}, which is not of the account's key" if strange else ""


def who_can_decrypt(key: Key) -> list[str]:
    """The GnuPG homes of this host that hold a private part of a key."""
    homes = {DEFAULT_HOME, *(os.path.join(account.pw_dir, ".gnupg") for account in pwd.getpwall())}
    return sorted(home for home in homes if key.has_private_part(keygrips(home)))
