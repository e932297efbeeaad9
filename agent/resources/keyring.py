"""A GnuPG home: the keys in it, how far they are trusted, and that nobody else can come near it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from agent.errors import Degraded, NotPermitted, ResourceError
from agent.fields import AbsolutePath, AccountName, Doc, Duration, Parsed, seconds
from agent.host import Host
from agent.host.names import user_id
from agent.host.openpgp import gnupg
from agent.host.openpgp.home import exposed, make_private
from agent.host.openpgp.keys import Key, day
from agent.host.openpgp.table import Wanted, complaint, key_table, resolved, unusable
from agent.resource import Change, Prefetching, Resource, State, Undoable
from agent.sources import At, Below, Source

_MODE = "0700"
_DAY = 86400
_SHOWN = 3
"""Unusable keys that a plan tells of one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring(Resource, Prefetching, Undoable):
    """A GnuPG home with these keys in it, for its owner alone (mode 0700, all files 0600).

    A declared key is merged into the copy that is there: a renewed key brings its new expiry, user ids, subkeys or
    revocation, and an older copy changes nothing. What is wrong with one declared key (a private one, one without the
    declared address, one that can only sign, one that is missing) fails the keyring after all others are in place. Keys
    that expire, or that their owners revoked, are no failure: they are told at the end of every run, those that
    expire soon as well. No keyserver is ever asked, and no daemon of GnuPG is left running.
    """

    kind: ClassVar[str] = "keyring"
    waits: ClassVar[bool] = True
    not_undone: ClassVar[tuple[str, ...]] = ("exposed",)
    looks_every: ClassVar[str] = "6h"
    files_beside: ClassVar[tuple[str, ...]] = ("keys.file",)
    example: ClassVar[str] = (
        '[user.gpgit]\nsystem = true\nhome = "/var/opt/gpgit"\n\n'
        '[directory."/var/opt/gpgit"]\nowner = "gpgit"\nmode = "0750"\n\n'
        '[keyring."/var/opt/gpgit/.gnupg"]\nowner = "gpgit"\nexclusive = true\n'
        'keys = [{ file = "astronaut57.asc", email = "astronaut57@example.org", trust = "full" }]\n'
    )

    name: Annotated[AbsolutePath, Doc("The GnuPG home")]
    ensure: Annotated[
        Literal["present", "absent"], Doc("`absent` removes the home with all it holds, unless it holds a private key")
    ] = "present"
    owner: Annotated[AccountName | None, Doc("Whose it is; left as it is where not given (root for a new one)")] = None
    keys: Annotated[
        list[Annotated[dict[str, Any], Parsed(key_table)]],
        Doc(
            "The keys, a table each. `file`: a file with the key, armored or binary, beside the declaring TOML file or "
            "by an absolute path; or `armor`: the key itself as text; or neither, then it has to be there already. "
            "`fingerprint`: which one it has to be. `email`: an address that it has to have a user id for, and be able "
            "to encrypt to. `trust`: its owner trust, one of `unknown`, `never`, `marginal`, `full`, `ultimate`; left "
            "as it is where not given. `secret = true`: it is a private key; only then one is imported"
        ),
    ] = field(default_factory=list)
    exclusive: Annotated[
        bool, Doc("Remove public keys that are not declared; private ones are never removed, and fail the keyring")
    ] = False
    expiry_warning: Annotated[Duration, Doc("How long before a declared key expires it is told")] = "30d"

    def problems(self) -> Iterable[str]:
        """What is wrong across its fields."""
        if self.ensure == "absent":
            yield from (
                f'{key} has no meaning with ensure = "absent"' for key in ("keys", "exclusive") if getattr(self, key)
            )
        known = [table["fingerprint"] for table in self.keys if "fingerprint" in table]
        yield from (f"keys: {one} is declared twice" for one in sorted({one for one in known if known.count(one) > 1}))

    # Desired and actual

    def desired(self, host: Host) -> State | None:  # noqa: ARG002
        if self.ensure == "absent":
            return None
        state: dict[str, Any] = {"mode": _MODE, "exposed": []}
        if self.owner is not None:
            state["owner"] = self.owner
        for wanted in resolved(self.keys):
            state[wanted.attribute] = wanted.description
            if wanted.trust is not None and not wanted.problem:
                state[f"trust {wanted.fingerprint}"] = wanted.trust
        if self.exclusive:
            state["undeclared"] = []
        return state

    @classmethod
    def prefetch(cls, host: Host, resources: Sequence[Keyring]) -> None:
        for resource in resources:
            with suppress(ResourceError, OSError):  # `read` tells of it
                resolved(resource.keys)
                entry = host.files.read_entry(resource.name, resource.links)
                if host.is_root and entry is not None and entry["type"] == "directory":
                    host.gnupg.keys(resource.name)

    def read(self, host: Host) -> State | None:
        entry = host.files.read_entry(self.name, self.links)
        if entry is None:
            if self.ensure == "present" and not self.requires:
                host.files.require_parent(self.name)
            self._warn(host, {})
            return None
        if entry["type"] != "directory":
            raise ResourceError(
                f"{self.name} is a {entry['type']}", hint="move it away; it is never removed for a keyring"
            )
        if not host.is_root and not os.access(self.name, os.R_OK):
            raise NotPermitted(f"{self.name} can only be read by root or its owner", hint="run it with sudo")
        others_can = exposed(self.name, user_id(self.owner or entry["owner"]))
        present = host.gnupg.keys(self.name)
        self._warn(host, present)
        state = {"mode": entry["mode"], "owner": entry["owner"], "exposed": others_can} | self._read_keys(present)
        self._complain_of_what_is_left(host, state)
        return state

    def _read_keys(self, present: Mapping[str, Key]) -> dict[str, Any]:
        state: dict[str, Any] = {}
        declared = resolved(self.keys)
        keygrips = gnupg.keygrips(self.name)
        for wanted in declared:
            found = wanted.actual(present, keygrips)
            if found is not None:
                state[wanted.attribute] = found
            if wanted.fingerprint in present:
                state[f"trust {wanted.fingerprint}"] = present[wanted.fingerprint].trust
        if self.exclusive:
            state["undeclared"] = sorted(present.keys() - {wanted.fingerprint for wanted in declared})
        return state

    def _warn(self, host: Host, present: Mapping[str, Key]) -> None:
        """Tell of declared keys that expired, or soon will, or were revoked."""
        now = host.clock()
        for wanted in resolved(self.keys):
            key = present.get(wanted.fingerprint)
            if wanted.key is not None and not (key and key.covers(wanted.key)):
                key = wanted.key
            if key is None or wanted.problem:
                continue
            said = ""
            if key.primary.revoked or not key.usable_until:
                said = "was revoked by its owner"
            elif key.usable_until <= now:
                said = f"expired on {day(key.usable_until)}"
            elif key.usable_until - now <= seconds(self.expiry_warning):
                said = f"expires on {day(key.usable_until)}, in {int((key.usable_until - now) / _DAY)} days"
            if said:
                host.note(f"{self.id}: the key {key.fingerprint} ({wanted.email or ', '.join(key.names)}) {said}")

    # Changes

    def apply(self, host: Host, change: Change) -> None:
        if change.desired is None:
            gnupg.remove_home(self.name, self._owner(host), self.links)
            return
        if change.actual is None:
            host.files.make_directory(self.name, _MODE, owner=self.owner, links=self.links)
        owner = self._owner(host)
        host.files.set_attributes(self.name, mode=_MODE, owner=owner, links=self.links)
        make_private(self.name, owner, self.links)
        differing = {each.attribute for each in change.attributes}
        try:
            declared = [each for each in resolved(self.keys) if not each.problem]
            self._import(owner, [each for each in declared if each.attribute in differing])
            self._trust(host, owner, [each for each in declared if f"trust {each.fingerprint}" in differing])
            self._remove_others(host, owner)
        finally:
            make_private(self.name, owner, self.links)
            host.forget()
        if wrong := unusable(resolved(self.keys), host.gnupg.keys(self.name)):
            raise complaint(wrong)

    def _owner(self, host: Host) -> str:
        entry = host.files.read_entry(self.name, self.links)
        return self.owner or (str(entry["owner"]) if entry else "root")

    def _import(self, owner: str, due: Sequence[Wanted]) -> None:
        for private in (False, True):
            data = b"".join(each.block.data for each in due if each.block and each.block.private is private)
            if data:
                gnupg.import_keys(self.name, owner, data, private=private)

    def _trust(self, host: Host, owner: str, due: Sequence[Wanted]) -> None:
        host.forget()
        # gpg takes trust for keys that it does not have, too, and keeps it for whatever comes under that name.
        present = host.gnupg.keys(self.name)
        levels = {each.fingerprint: each.trust for each in due if each.trust and each.fingerprint in present}
        if levels:
            gnupg.set_trust(self.name, owner, levels)

    def _remove_others(self, host: Host, owner: str) -> None:
        if not self.exclusive or not all(wanted.fingerprint for wanted in resolved(self.keys)):
            return  # of which key a declaration that is wrong speaks, nobody knows
        host.forget()
        others = self._read_keys(host.gnupg.keys(self.name))["undeclared"]
        private = self._private(host, others)
        if private:
            raise ResourceError(
                f"{self.name} holds private keys that are not declared: {', '.join(private)}",
                hint="declare them, or remove them by hand (gpg --delete-secret-keys); nothing was removed",
            )
        gnupg.delete_keys(self.name, owner, others)

    def _private(self, host: Host, fingerprints: Iterable[str]) -> list[str]:
        keys, grips = host.gnupg.keys(self.name), gnupg.keygrips(self.name)
        return [one for one in fingerprints if keys[one].has_private_part(grips)]

    def _complain_of_what_is_left(self, host: Host, state: State) -> None:
        """Raise where nothing differs any more but that: there is nothing to plan."""
        desired = self.desired(host) or {}
        left = {name for name, value in desired.items() if state.get(name) != value}
        wrong = unusable(resolved(self.keys), host.gnupg.keys(self.name))
        if left and not left - {*wrong, *(name.replace("key ", "trust ") for name in wrong)}:
            raise complaint(wrong)

    # Undoing

    def cannot_undo(self, host: Host, before: State | None) -> str:
        if host.files.read_entry(self.name, self.links) is None:
            return ""
        present, left = host.gnupg.keys(self.name), []
        if private := self._private(host, self._added(before, present)):
            left.append(f"private keys are never removed: {', '.join(private)} stay in {self.name}")
        if lost := sorted(set((before or {}).get("undeclared", ())) - present.keys()):
            left.append(f"keys that were removed from {self.name} were not kept: {', '.join(lost)}")
        return "; ".join(left)

    def _added(self, before: State | None, present: Mapping[str, Key]) -> set[str]:
        """The declared keys that are there, and were not before."""
        declared = (each for each in resolved(self.keys) if each.attribute not in (before or {}))
        return {each.fingerprint for each in declared} & present.keys()

    def undo(self, host: Host, before: State | None) -> None:
        """Remove the keys that were added, and the home where it was made and nothing else came into it."""
        if host.files.read_entry(self.name, self.links) is None:
            return
        known, owner = before or {}, self._owner(host)
        left = self.cannot_undo(host, before)
        added = self._added(before, host.gnupg.keys(self.name))
        gnupg.delete_keys(self.name, owner, added.difference(self._private(host, added)))
        host.forget()
        present = host.gnupg.keys(self.name)
        if before is None:
            if not present:
                gnupg.remove_home(self.name, owner, self.links)
        else:
            trust = {name.removeprefix("trust "): level for name, level in known.items() if name.startswith("trust ")}
            gnupg.set_trust(self.name, owner, {one: level for one, level in trust.items() if one in present})
            host.files.set_attributes(self.name, mode=known["mode"], owner=known["owner"], links=self.links)
        host.forget()
        if left:
            raise Degraded(left, changed=True)

    def summary(self, host: Host, change: Change) -> str:
        there = {} if change.actual is None else host.gnupg.keys(self.name)
        wrong = [] if change.desired is None else list(unusable(resolved(self.keys), there).values())
        more = [f"{len(wrong) - _SHOWN} more cannot be used"] * (len(wrong) > _SHOWN)
        return "; ".join([*wrong[:_SHOWN], *more])

    def watched(self) -> Iterable[Source]:
        files = (At(key["file"]) for key in self.keys if key.get("file"))
        return [At(self.name), Below(self.name, but=gnupg.LOCKS), *files]

    def implied_requires(self) -> Iterable[str]:
        return [f"user:{self.owner}"] * bool(self.owner)

    def paths(self) -> Iterable[str]:
        """The home, and all it holds."""
        return (self.name, self.name + "/")
