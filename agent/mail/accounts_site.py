"""What a site says of its mail accounts, and where the files of an account are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from agent.declaration.compile import compile_site
from agent.declaration.loader import Loader
from agent.declaration.render import Renderer
from agent.declaration.site import SITE
from agent.declaration.values import Values
from agent.errors import DeclarationError, NotPermitted, UsageError
from agent.facts import Facts

FOLDER = "accounts.d"


@dataclass(frozen=True, slots=True)
class Account:
    """A declared account; `source` is where: `file:line`."""

    email: str
    aliases: tuple[str, ...]
    key: str
    fingerprint: str
    source: str


@dataclass(frozen=True, slots=True)
class AccountFiles:
    """The files of one account: its declaration, its public key, its password's hash, and one made for it in clear."""

    declaration: str
    key: str
    secret: str
    made: str

    @classmethod
    def of(cls, folder: str, email: str) -> AccountFiles:
        """Those of an address, in the folder of a site."""
        base = os.path.join(folder, FOLDER, email)
        secret = os.path.join(folder, "secrets", "accounts", email)
        return cls(f"{base}.toml", f"{base}.asc", secret, f"{secret}.password")


class AccountSite:
    """The accounts of a site, as its documents declare them now."""

    def __init__(self, path: Path, shipped: Path | None) -> None:
        self._path = path
        self._shipped = shipped
        self._site = Loader(path, shipped).load()
        if self._site.reader.problems:
            raise DeclarationError(self._site.reader.problems)
        self._values = Values(self._site, Renderer(self._site.reader), Facts())

    @property
    def folder(self) -> str:
        """The folder of the site file, without links on the way."""
        return os.path.realpath(self._path.parent)

    def files(self, email: str) -> AccountFiles:
        """The files that an account of this address has."""
        return AccountFiles.of(self.folder, email)

    def check_permitted(self) -> None:
        """Raise NotPermitted where this user cannot write into the site's folder."""
        if not os.access(self.folder, os.W_OK):
            raise NotPermitted(f"{self.folder} cannot be changed without root", hint="run it with sudo")

    def validate(self) -> None:
        """Read and check the whole site anew, as `agent validate` does; raises DeclarationError."""
        compile_site(self._path, self._shipped)

    @property
    def domain(self) -> str:
        """The mail domain. Raises UsageError where the site names none."""
        found = self._plain("domain")
        if not isinstance(found, str):
            raise UsageError("the site names no domain", hint=f'write domain = "…" into [values] of {self._path}')
        return found.lower()

    @cached_property
    def accounts(self) -> list[Account]:
        """All accounts, in the order in which they are declared; what is none is left to `agent validate`."""
        found = self._plain("accounts")
        rows = found if isinstance(found, list) else []
        return [
            self._account(i, row)
            for i, row in enumerate(rows)
            if isinstance(row, Mapping) and isinstance(row.get("email"), str)
        ]

    def _plain(self, name: str) -> Any:
        return self._values.value(SITE, name) if name in self._site.values else None

    def _account(self, index: int, row: Mapping[str, Any]) -> Account:
        document, path = self._site.origins["accounts", index]
        aliases = row.get("aliases")
        named = [each.lower() for each in aliases if isinstance(each, str)] if isinstance(aliases, list) else []
        key = _text(row, "key")
        return Account(
            email=_text(row, "email").lower(),
            aliases=tuple(named),
            key=os.path.join(document.path.parent, key) if key else "",
            fingerprint=_text(row, "fingerprint"),
            source=f"{document.shown}:{document.line(path)}",
        )

    def setting(self, state: str, name: str) -> str | None:
        """The value of a text parameter of a state, None where the state is not selected or has none."""
        chosen = next((each for each in self._site.states if each.name == state), None)
        if chosen is None or name not in chosen.parameters:
            return None
        found = self._values.value(state, name)
        return found if isinstance(found, str) else None

    def check_included(self, email: str) -> None:
        """Raise UsageError where no `include` of the site finds an account's declaration."""
        path = PurePath(self._path.parent, FOLDER, f"{email}.toml")
        patterns = self._site.reader.listings
        if not any(path.match(os.path.normpath(os.path.join(folder, pattern))) for folder, pattern in patterns):
            section = self._site.document.data.get("site", {}) if self._site.document else {}
            given = section.get("include", []) if isinstance(section, dict) else []
            listed = ", ".join(f'"{each}"' for each in [*given, f"{FOLDER}/*.toml"])
            raise UsageError(
                f"{self._path} does not include what accounts are declared in",
                hint=f"write this line into its [site] section: include = [{listed}]",
            )


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""
