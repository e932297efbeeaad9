"""Declared keys: what a table of `keys` in a keyring may say, and what it comes to once its key was read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.errors import ResourceError
from agent.fields import email
from agent.host.openpgp.blocks import Block, key_blocks
from agent.host.openpgp.gnupg import show
from agent.host.openpgp.keys import TRUST, Key
from agent.secret import SecretText

_KEYS = ("file", "armor", "fingerprint", "trust", "email", "secret")
_FINGERPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
_PRIVATE = "it is a private key"
_PUBLISH = "declare the public one (gpg --armor --export), or set secret = true if this host is to have it"


def key_table(table: Mapping[str, Any]) -> dict[str, Any]:
    """One table of `keys`, checked and in one spelling. Raises ValueError with what is wrong."""
    for key in table:
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, n=1)
            raise ValueError(f'"{key}" is no key of it' + (f'; did you mean "{close[0]}"?' if close else ""))
    for key, value in table.items():
        wanted = bool if key == "secret" else (str, SecretText) if key == "armor" else str
        if not isinstance(value, wanted):
            raise ValueError(f"{key} must be {'true or false' if key == 'secret' else 'a string'}")
    if "file" in table and "armor" in table:
        raise ValueError("only one of file and armor can be given")
    if not {"file", "armor", "fingerprint"} & set(table):
        raise ValueError("one of file, armor and fingerprint is needed")
    if table.get("trust", "full") not in TRUST:
        raise ValueError(f'"{table["trust"]}" is no trust: {", ".join(TRUST)}')
    if isinstance(table.get("armor"), str) and "PRIVATE KEY BLOCK" in table["armor"]:
        raise ValueError('armor is a private key: make it a secret, and write "{{ secrets.NAME }}"')
    checked = dict(table)
    if "email" in table:
        email(table["email"])
    if "fingerprint" in table:
        checked["fingerprint"] = _fingerprint(table["fingerprint"])
    return checked


def _fingerprint(text: str) -> str:
    plain = re.sub(r"\s", "", text).upper().removeprefix("0X")
    if not _FINGERPRINT.fullmatch(plain):
        raise ValueError(f'"{text}" is not a fingerprint: 40 hexadecimal digits, as gpg --fingerprint shows them')
    return plain


@dataclass(frozen=True)
class Wanted:
    """A declared key: the packets to import and what gpg makes of them, or what is wrong with it (`problem`)."""

    label: str
    fingerprint: str = ""
    trust: str | None = None
    email: str = ""
    secret: bool = False
    block: Block | None = None
    key: Key | None = None
    problem: str = ""

    @property
    def attribute(self) -> str:
        """What the state calls it."""
        return f"key {self.label if self.problem else self.fingerprint}"

    @property
    def description(self) -> str:
        """What it is desired to be."""
        if self.problem:
            return "a key that can be used"
        return "present" if self.key is None else ("private; " if self.secret else "") + str(self.key)

    def actual(self, present: Mapping[str, Key], keygrips: set[str]) -> str | None:
        """What it is in a home that holds these keys, and private keys with these keygrips."""
        if self.problem:
            return self.problem
        found = present.get(self.fingerprint)
        if found is None or self.key is None:
            return None if found is None else self.description
        if self.secret and not found.has_private_part(keygrips):
            return f"{found}; without its private key"
        return self.description if found.covers(self.key) else f"{found}; older"


def resolved(tables: Sequence[Mapping[str, Any]]) -> list[Wanted]:
    """The declared keys, read; gpg takes all public ones apart in one process, and remembers them."""
    read = [_read(table, number) for number, table in enumerate(tables, 1)]
    public = show([each.block for each in read if each.block and not each.block.private])
    return [_checked(each, public) for each in read]


def _read(table: Mapping[str, Any], number: int) -> Wanted:
    label = table.get("file") or table.get("email") or table.get("fingerprint") or f"number {number}"
    wanted = Wanted(
        label, table.get("fingerprint", ""), table.get("trust"), table.get("email", ""), table.get("secret", False)
    )
    try:
        if "file" in table:
            content = Path(table["file"]).read_bytes()
        elif "armor" in table:
            armor = table["armor"]
            content = (armor.reveal() if isinstance(armor, SecretText) else armor).encode()
        else:
            return wanted
        return replace(wanted, block=_chosen(key_blocks(content), wanted))
    except OSError as error:
        return replace(wanted, problem=f"it cannot be read: {error.strerror}")
    except ValueError as error:
        return replace(wanted, problem=str(error))


def _chosen(blocks: Sequence[Block], wanted: Wanted) -> Block:
    """The one key that is meant. Raises ValueError where there is none, or more than one."""
    if not wanted.secret and any(block.private for block in blocks):
        raise ValueError(f"{_PRIVATE}; {_PUBLISH}")
    if wanted.secret:
        blocks = [block for block in blocks if block.private]
        if not blocks:
            raise ValueError("it is a public key, and secret = true wants the private one")
    elif wanted.fingerprint:
        named = [block for block in blocks if block.fingerprint == wanted.fingerprint]
        if not named:
            raise ValueError(f"its fingerprint is {', '.join(block.fingerprint for block in blocks)}")
        return named[0]
    if len(blocks) > 1:
        raise ValueError(f"it holds {len(blocks)} keys; write fingerprint to say which one is meant")
    return blocks[0]


def _checked(wanted: Wanted, public: Mapping[str, Key]) -> Wanted:
    if wanted.block is None:
        return wanted
    keys = show([wanted.block]) if wanted.block.private else public
    key = next(iter(keys.values()), None) if wanted.block.private else keys.get(wanted.block.fingerprint)
    if key is None:
        return replace(wanted, problem="gpg cannot read it")
    if wanted.fingerprint and key.fingerprint != wanted.fingerprint:
        return replace(wanted, problem=f"its fingerprint is {key.fingerprint}")
    return replace(wanted, fingerprint=key.fingerprint, key=key, problem=_problem(wanted, key))


def _problem(wanted: Wanted, key: Key) -> str:
    if not key.uids:
        return "it has no user id"
    if wanted.email and not key.has_address(wanted.email):
        return f"it has no valid user id for {wanted.email}; it has {', '.join(key.names)}"
    if wanted.email and not key.encryption_parts:
        return "it can only sign: nothing can be encrypted to it"
    return ""


def unusable(declared: Sequence[Wanted], present: Mapping[str, Key]) -> dict[str, str]:
    """By attribute, what is wrong with single keys that no change of the agent's can put right."""
    wrong = {}
    for each in declared:
        if each.problem:
            wrong[each.attribute] = f"{each.label}: {each.problem}"
        elif each.block is None and each.fingerprint not in present:
            wrong[each.attribute] = (
                f"{each.label}: it is not in the keyring, and nothing but its fingerprint is declared"
            )
    return wrong


def complaint(wrong: Mapping[str, str]) -> ResourceError:
    """The error for keys that are unusable, all of them at once."""
    count = "a declared key" if len(wrong) == 1 else f"{len(wrong)} declared keys"
    return ResourceError(f"{count} cannot be used; all else is in place", detail="\n".join(wrong.values()))
