"""To which key a recipient's mail is sealed: accounts and aliases from recipients.json, keys from the keyring."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agent.errors import ResourceError
from agent.host.openpgp.gnupg import RINGS, listed
from agent.host.openpgp.keys import Key, day

DEFAULT_HOME = "/var/opt/gpgit/.gnupg"
DEFAULT_RECIPIENTS = "/etc/state-agent/recipients.json"
_DEEPEST = 10  # of aliases in aliases


class NoKey(ResourceError):
    """There is no key that mail for this recipient could be sealed to, for the time being."""


@dataclass(frozen=True, slots=True)
class Recipients:
    """Who has mail here; all addresses are in lower case. Accounts map to a fingerprint, None: found by the address."""

    domain: str = ""
    delimiter: str = "+"
    accounts: dict[str, str | None] = field(default_factory=dict)
    aliases: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str) -> Recipients:
        """The file's content, nobody where there is none. Raises ResourceError where it is not as it should be."""
        try:
            with open(path, encoding="utf-8") as file:
                table = json.load(file)
            return cls._of(table)
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise ResourceError(f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            hint = "`agent apply` writes it anew"
            raise ResourceError(f"{path} is not a list of recipients: {error}", hint=hint) from None

    @classmethod
    def _of(cls, table: Any) -> Recipients:
        accounts = {
            str(name).casefold(): value and str(value).replace(" ", "").upper()
            for name, value in table["accounts"].items()
        }
        aliases = {
            str(name).casefold(): [str(one).casefold() for one in names]
            for name, names in table.get("aliases", {}).items()
        }
        return cls(str(table.get("domain", "")), str(table.get("delimiter", "+")), accounts, aliases)

    def spellings(self, address: str) -> list[str]:
        """The address in lower case, and without its extension, in the order in which Postfix looks them up."""
        full = address.casefold()
        local, at, domain = full.rpartition("@")
        if not at:
            local, domain = full, self.domain.casefold()
            full = f"{local}@{domain}"
        cut = min((local.find(each, 1) for each in self.delimiter if local.find(each, 1) > 0), default=0)
        return [full, f"{local[:cut]}@{domain}"] if cut else [full]

    def accounts_of(self, address: str) -> list[str]:
        """The accounts that get what is sent to an address; none where it is not of this host."""
        found: dict[str, None] = {}
        self._expand(address, found, 0)
        return list(found)

    def _expand(self, address: str, found: dict[str, None], depth: int) -> None:
        for spelling in self.spellings(address):
            if spelling in self.aliases and depth < _DEEPEST:
                for target in self.aliases[spelling]:
                    if target == spelling:
                        found[target] = None
                    else:
                        self._expand(target, found, depth + 1)
                return
            if spelling in self.accounts:
                found[spelling] = None
                return


class Keys:
    """Recipients and keyring, read again as soon as either was changed; gpg is asked for nothing else."""

    def __init__(self, home: str, recipients: str, now: Callable[[], float] = time.time) -> None:
        self.home = home
        self._path = recipients
        self.now = now
        self._lock = threading.Lock()
        self._stamp: object = None
        self.recipients = Recipients()
        self._keys: dict[str, Key] = {}

    def _stamps(self) -> list[object]:
        return [_stamp(self._path), *(_stamp(os.path.join(self.home, ring)) for ring in RINGS)]

    def changed(self) -> bool:
        """Whether there is something to read that was not read yet."""
        return self._stamps() != self._stamp

    def refresh(self) -> bool:
        """Read what was changed, if anything. Raises ResourceError where that is not possible."""
        with self._lock:
            stamp = self._stamps()
            if stamp == self._stamp:
                return False
            recipients = Recipients.read(self._path)
            if not os.access(self.home, os.R_OK | os.X_OK):
                hint = "declare it as a `keyring`, or see --home"
                raise ResourceError(f"the keyring {self.home} cannot be read", hint=hint)
            self._keys = listed(self.home)
            self.recipients, self._stamp = recipients, stamp
            return True

    def fingerprint(self, address: str) -> str:
        """The fingerprint of the key to seal to. Raises NoKey, which says why there is none."""
        return self.key(address).fingerprint

    def key(self, address: str) -> Key:
        """The key to seal to for a recipient that aliases are resolved for. Raises NoKey."""
        spellings = self.recipients.spellings(address)
        for spelling in spellings:
            named = self.recipients.accounts.get(spelling)
            if named:
                return self._usable(address, [self._keys[named]] if named in self._keys else [])
        for spelling in spellings:
            found = [key for key in self._keys.values() if key.has_address(spelling)]
            if found:
                return self._usable(address, found)
        return self._usable(address, [])

    def _usable(self, address: str, keys: list[Key]) -> Key:
        now = self.now()
        newest = sorted(keys, key=lambda key: (problem(key, now) == "", key.signed))
        if not newest:
            raise NoKey(f"there is no key for {address} in {self.home}")
        wrong = problem(newest[-1], now)
        if wrong:
            raise NoKey(f"the key of {address} {wrong}")
        return newest[-1]

    def until(self, account: str) -> float:
        """When an account's key expires. Raises NoKey where it has none that can be used."""
        return self.key(account).usable_until


def problem(key: Key, now: float) -> str:
    """Why nothing can be sealed to a key; nothing where it can."""
    if key.primary.revoked:
        return "was revoked"
    if key.disabled:
        return "is disabled"
    if not key.encryption_parts:
        return "can only sign"
    if key.usable_until == 0:
        return "has no part to encrypt to that was not revoked"
    if key.usable_until <= now:
        return f"expired on {day(key.usable_until)}"
    return ""


def _stamp(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError as error:
        return error.errno
    return status.st_ino, status.st_mtime_ns, status.st_size
