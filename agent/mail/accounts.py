"""Mail accounts: each a file in the site's `accounts.d/`, with its public key beside it and the password's hash apart.

The declaration is written last and removed first: until it is there, whatever was written is no account. What a
killed command left behind is overwritten by the next one. Reconciling (rows, keyring, maildir) is not done here.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import UsageError
from agent.host.lock import exclusive
from agent.mail.accounts_address import check_aliases, check_free
from agent.mail.accounts_edit import Edit
from agent.mail.accounts_keys import PublicKey
from agent.mail.accounts_password import Password
from agent.mail.accounts_site import FOLDER, Account, AccountFiles, AccountSite


@dataclass(frozen=True)
class Accounts:
    """The accounts of a site, and what changes them; `run_dir` holds the lock."""

    path: Path
    shipped: Path | None
    run_dir: Path

    def site(self) -> AccountSite:
        """What the site says now. Raises DeclarationError where it is wrong."""
        return AccountSite(self.path, self.shipped)

    def _locked(self, purpose: str) -> AbstractContextManager[None]:
        return exclusive(self.run_dir / "accounts.lock", purpose, wait=True)

    def check_new(self, email: str, aliases: Sequence[str]) -> None:
        """Raise what keeps an account from being added, before anybody is asked for a password."""
        site = self.site()
        _check_new(site, email, aliases)
        site.validate()

    def add(self, email: str, aliases: Sequence[str], key: PublicKey, password: Password) -> None:
        """Declare a new account; where the site would be wrong with it, nothing of it stays."""
        with self._locked(f"agent account add {email}"):
            site = self.site()
            _check_new(site, email, aliases)
            files = site.files(email)
            with Edit() as edit:
                edit.folder(os.path.join(site.folder, FOLDER), "0755")
                for folder in (os.path.dirname(os.path.dirname(files.secret)), os.path.dirname(files.secret)):
                    edit.folder(folder, "0700")
                _write(edit, files, password)
                edit.write(files.key, key.armor, "0644")
                edit.write(files.declaration, _toml(_declaration(email, aliases, key, files)), "0644")
                site.validate()

    def set_password(self, email: str, password: Password) -> None:
        """Replace the password's hash."""
        with self._locked(f"agent account passwd {email}"):
            files = self.own(email)
            with Edit() as edit:
                _write(edit, files, password)

    def set_key(self, email: str, key: PublicKey) -> None:
        """Replace the key: for a moment the file holds both, so that the fingerprint always finds its own."""
        with self._locked(f"agent account key {email}"):
            files = self.own(email)
            document = tomllib.loads(Path(files.declaration).read_text(encoding="utf-8"))
            rows: list[dict[str, Any]] = document["values"]["accounts"]
            row = next(each for each in rows if str(each.get("email")).lower() == email)
            with Edit() as edit:
                if row.get("fingerprint") != key.fingerprint:
                    row["fingerprint"] = key.fingerprint
                    edit.write(files.key, key.armor + Path(files.key).read_bytes(), "0644")
                    edit.write(files.declaration, _toml(document), "0644")
                edit.write(files.key, key.armor, "0644")
                self.site().validate()

    def own(self, email: str) -> AccountFiles:
        """The files of an account that this program declared; raises UsageError where there is none."""
        site = self.site()
        found = next((each for each in site.accounts if each.email == email), None)
        if found is None:
            raise UsageError(f"there is no account {email}", hint=_nearest(email, site.accounts))
        files = site.files(email)
        if not os.path.isfile(files.declaration):
            raise UsageError(f"{email} is declared by hand, at {found.source}", hint="change it there")
        site.check_permitted()
        return files

    def remove(self, email: str) -> bool:
        """Take the declaration away, then key and hash; gives whether there was a declaration, or only leftovers."""
        with self._locked(f"agent account remove {email}"):
            site = self.site()
            files = site.files(email)
            declared = any(each.email == email for each in site.accounts)
            if declared:
                self.own(email)
            with Edit() as edit:
                edit.remove(files.declaration)
                site.validate()
            with Edit() as edit:  # of its own: what was declared is not to come back for a leftover
                edit.remove(files.key)
                edit.remove(files.secret)
                edit.remove(files.made)
            return declared

    def check_known(self, email: str) -> None:
        """Raise UsageError where there is neither an account of this program's making nor anything left of one."""
        files = self.site().files(email)
        if not any(map(os.path.lexists, (files.key, files.secret, files.made))):
            self.own(email)


def _check_new(site: AccountSite, email: str, aliases: Sequence[str]) -> None:
    check_free(email, site.domain, site.accounts)
    check_aliases(email, aliases, site.domain, site.accounts)
    site.check_included(email)
    site.check_permitted()


def _write(edit: Edit, files: AccountFiles, password: Password) -> None:
    if password.made:
        edit.write(files.made, password.made.encode() + b"\n", "0600")
    else:
        edit.remove(files.made)
    edit.write(files.secret, password.hash.encode() + b"\n", "0600")


def _declaration(email: str, aliases: Sequence[str], key: PublicKey, files: AccountFiles) -> dict[str, Any]:
    row: dict[str, Any] = {
        "email": email,
        "key": files.key,
        "fingerprint": key.fingerprint,
        "password": f"{{{{ secrets['{email}'] }}}}",
    }
    if aliases:
        row["aliases"] = list(aliases)
    return {"values": {"accounts": [row]}, "secrets": {email: {"file": files.secret}}}


def _toml(document: dict[str, Any]) -> bytes:
    """The document as TOML; read back, because not all that `toml` writes says what it was given."""
    import toml

    text = "# written by `agent account`\n\n" + toml.dumps(document).replace("[values]\n[[", "[[", 1)
    if tomllib.loads(text) != document:
        raise UsageError("this account cannot be written as TOML", hint="is there an odd character in a path?")
    return text.encode()


def _nearest(email: str, accounts: Sequence[Account]) -> str:
    import difflib

    close = difflib.get_close_matches(email, [account.email for account in accounts], n=1)
    return f"did you mean {close[0]}?" if close else "agent account list shows those that there are"
