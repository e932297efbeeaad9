"""States as the journal keeps, compares and shows them: never with a secret in them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.errors import JournalError
from agent.journal.backups import Backups
from agent.resource import AttributeChange, Change, State
from agent.secret import REDACTED, Secret

_KEYED = "keyed:"


def shown(value: Any) -> Any:
    """A value as plans, JSON and the journal show it: contents as digests, secrets not at all."""
    if isinstance(value, bytes):
        return "blake2b:" + hashlib.blake2b(value, digest_size=16).hexdigest()
    if isinstance(value, Secret):
        return REDACTED
    if isinstance(value, Mapping):
        return {str(key): shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(item) for item in value]
    return value


class Digests:
    """States as text that is equal for equal states: contents as digests, secrets as digests with a key of this host.

    `write` allows the key to be made; a reader without one takes no two secrets for equal.
    """

    def __init__(self, key_file: Path, *, write: bool) -> None:
        self._key_file = key_file
        self._write = write
        self._key: bytes | None = None

    def comparable(self, state: State | None) -> str:
        """The state as such a text."""
        plain = None if state is None else {name: self._value(state[name]) for name in sorted(state)}
        return json.dumps(plain, sort_keys=True)

    def _value(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return "blake2b:" + hashlib.blake2b(value, digest_size=16).hexdigest()
        if isinstance(value, Secret):
            plain = value.reveal()
            data = plain.encode("utf-8", "surrogatepass") if isinstance(plain, str) else plain
            return _KEYED + hashlib.blake2b(data, key=self._digest_key(), digest_size=16).hexdigest()
        if isinstance(value, Mapping):
            return {str(key): self._value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._value(item) for item in value]
        return value

    def _digest_key(self) -> bytes:
        if self._key is None:
            try:
                self._key = self._read_key()
            except OSError as error:
                raise JournalError(f"the key {self._key_file} cannot be used: {error.strerror}") from None
        return self._key

    def _read_key(self) -> bytes:
        key = self._key_file.read_bytes() if self._key_file.exists() else b""
        if len(key) == 32:
            return key
        key = os.urandom(32)
        if self._write:
            fd = os.open(self._key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(key)
        return key


def kept(state: State | None, backups: Backups) -> Any:
    """A state to be put back later: contents go to the backups, secrets nowhere."""
    if state is None:
        return None
    found: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, bytes):
            found[name] = {"blob": backups.keep(value)}
        else:
            found[name] = {"sensitive": True} if isinstance(value, Secret) else value
    return found


def put_together(text: str | None, backups: Backups) -> State | None:
    """A state that was kept, as JSON, with its contents from the backups. Secrets are missing in it."""
    plain = json.loads(text) if text else None
    if plain is None:
        return None
    found = {}
    for name, value in plain.items():
        if _is_blob(value):
            found[name] = backups.content(value["blob"])
        elif value != {"sensitive": True}:
            found[name] = value
    return found


def secrets_in(text: str | None) -> set[str]:
    """The attributes of a kept state, as JSON, whose values were secret."""
    plain = json.loads(text) if text else None
    return {name for name, value in plain.items() if value == {"sensitive": True}} if isinstance(plain, dict) else set()


def blobs_in(text: str | None) -> set[str]:
    """The names of the backups that a kept state, as JSON, refers to."""
    plain = json.loads(text) if text else None
    if not isinstance(plain, dict):
        return set()
    return {value["blob"] for value in plain.values() if _is_blob(value)}


def _is_blob(value: Any) -> bool:
    """Whether it stands for a backup; an attribute can be a table too, with any keys."""
    return isinstance(value, dict) and value.keys() == {"blob"} and isinstance(value["blob"], str)


def veiled(change: Change, last_set: Mapping[str, Any] | None) -> Change:
    """The change with what was set as a secret hidden, where the declaration of today does not say that it is one."""
    secret = {name for name, value in (last_set or {}).items() if isinstance(value, str) and value.startswith(_KEYED)}
    actual = {
        name: Secret(value) if name in secret and isinstance(value, str | bytes) else value
        for name, value in (change.actual or {}).items()
    }
    attributes = tuple(
        AttributeChange(each.attribute, actual.get(each.attribute), each.desired)
        if each.attribute in secret and each.actual is not None
        else each
        for each in change.attributes
    )
    return Change(None if change.actual is None else actual, change.desired, attributes)
