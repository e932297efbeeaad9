"""What gpg says of keys (`--with-colons`, doc/DETAILS of GnuPG), and what follows from it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf

TRUST = {"unknown": 2, "never": 3, "marginal": 4, "full": 5, "ultimate": 6}
"""Levels of owner trust, and their codes in `gpg --export-ownertrust`."""
_LETTERS = {"n": "never", "m": "marginal", "f": "full", "u": "ultimate"}
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")
_ADDRESS = re.compile(r"<([^<>\s]+@[^<>\s]+)>|^([^<>\s]+@[^<>\s]+)$")


@dataclass(slots=True)
class Part:
    """The primary key or a subkey. `expires` is in seconds since the epoch, or infinite."""

    fingerprint: str = ""
    keygrip: str = ""
    expires: float = inf
    revoked: bool = False
    encrypts: bool = False


@dataclass(slots=True)
class Key:
    """A key with its subkeys.

    `uids` maps each user id to whether it was revoked; `signed` is when the key last signed one of them.
    """

    primary: Part
    private: bool
    trust: str
    signed: int = 0
    disabled: bool = False
    uids: dict[str, bool] = field(default_factory=dict)
    subkeys: dict[str, Part] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of its primary key."""
        return self.primary.fingerprint

    @property
    def names(self) -> list[str]:
        """Its user ids, those that were revoked only where there are no others."""
        return [uid for uid, revoked in self.uids.items() if not revoked] or list(self.uids)

    def has_address(self, email: str) -> bool:
        """Whether a user id that is not revoked has this mail address."""
        found = (_ADDRESS.search(uid) for uid, revoked in self.uids.items() if not revoked)
        return any(email.casefold() == (match[1] or match[2]).casefold() for match in found if match)

    @property
    def encryption_parts(self) -> list[Part]:
        """Those of its parts that are made to encrypt to, be they valid or not."""
        return [part for part in (self.primary, *self.subkeys.values()) if part.encrypts]

    @property
    def usable_until(self) -> float:
        """When it expires: all of it, or the last of the parts to encrypt to. 0 where those were all revoked."""
        until = [part.expires for part in self.encryption_parts if not part.revoked]
        if not self.encryption_parts:
            return self.primary.expires
        return min(self.primary.expires, max(until, default=0))

    def has_private_part(self, keygrips: set[str]) -> bool:
        """Whether one of these keygrips, those of private keys, is of it."""
        return any(part.keygrip in keygrips for part in (self.primary, *self.subkeys.values()))

    def covers(self, other: Key) -> bool:
        """Whether another copy of the same key, merged into this one, would bring nothing new."""
        if self.primary.revoked or other.primary.revoked:
            return self.primary.revoked
        if any(uid not in self.uids or (revoked and not self.uids[uid]) for uid, revoked in other.uids.items()):
            return False
        if other.signed > self.signed and other.primary.expires != self.primary.expires:
            return False
        return all(_covers(self.subkeys.get(name), part) for name, part in other.subkeys.items())

    def __str__(self) -> str:
        until = "revoked" if self.primary.revoked else f"expires {day(self.usable_until)}"
        count = len(self.subkeys)
        return f"{', '.join(self.names)}; {until}; {count} subkey{'s' * (count != 1)}"


def _covers(mine: Part | None, other: Part) -> bool:
    if mine is None or (other.revoked and not mine.revoked):
        return False
    # When a subkey was last signed is not listed; that the later end is the newer one holds for renewed keys.
    return mine.revoked or mine.expires >= other.expires


def day(time: float) -> str:
    """A time as a date, in UTC."""
    if time == inf:
        return "never"
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d")


def parsed(listing: str) -> dict[str, Key]:
    """The keys in gpg's output, by fingerprint."""
    keys: list[Key] = []
    part = Part()
    for line in listing.splitlines():
        fields = line.split(":")
        if fields[0] in ("pub", "sec"):
            part = _part(fields)
            trust = _LETTERS.get(fields[8][:1], "unknown")
            keys.append(Key(part, fields[0] == "sec", trust, disabled="D" in fields[11]))
        elif not keys:
            continue
        elif fields[0] in ("sub", "ssb"):
            part = _part(fields)
        elif fields[0] == "fpr":
            part.fingerprint = fields[9]
            if part is not keys[-1].primary:
                keys[-1].subkeys[part.fingerprint] = part
        elif fields[0] == "grp":
            part.keygrip = fields[9]
        elif fields[0] == "uid":
            uid = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), fields[9])
            keys[-1].uids[uid] = fields[1] == "r"
            keys[-1].signed = max(keys[-1].signed, int(fields[5] or 0))
    for key in keys:
        if key.primary.revoked:  # then gpg calls all of it revoked, which its user ids and subkeys need not be
            key.uids = dict.fromkeys(key.uids, False)
    return {key.fingerprint: key for key in keys}


def _part(fields: list[str]) -> Part:
    return Part(expires=float(fields[6]) if fields[6] else inf, revoked=fields[1] == "r", encrypts="e" in fields[11])
