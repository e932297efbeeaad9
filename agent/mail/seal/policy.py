"""Postfix's policy protocol (SMTPD_POLICY_README): mail for who has no usable key is refused before it is taken."""

from __future__ import annotations

import asyncio
import contextlib
import threading

from agent.errors import ResourceError
from agent.mail.seal.keys import Keys, NoKey
from agent.mail.seal.ledger import Ledger
from agent.mail.seal.log import log

_LONGEST = 64 * 1024
_NOTHING = "DUNNO"
_LATER = "450 4.3.0 the sealer cannot read its keys"


class Policy:
    """Answers from the keyring as it is now; `grace` is in seconds."""

    def __init__(self, keys: Keys, ledger: Ledger, grace: float) -> None:
        self._keys, self._ledger, self._grace = keys, ledger, grace
        self._lock = threading.RLock()

    def review(self) -> None:
        """Look at every account, so that its time without a key is known from the beginning."""
        with self._lock:
            self._review()

    def _review(self) -> None:
        try:
            self._keys.refresh()
        except ResourceError as error:
            log(str(error))
            return
        accounts = set(self._keys.recipients.accounts)
        missing = {account for account in accounts if self._problem(account)}
        try:
            self._ledger.note(missing, accounts, self._keys.now())
        except OSError as error:
            log(f"since when accounts have no key cannot be kept: {error.strerror}")

    def _problem(self, account: str) -> str:
        try:
            self._keys.fingerprint(account)
        except NoKey as error:
            return str(error)
        return ""

    def answer(self, query: dict[str, str]) -> str:
        """The action for what smtpd asks."""
        if query.get("protocol_state") != "RCPT" or not query.get("recipient"):
            return _NOTHING
        try:
            if self._keys.refresh():
                self.review()
        except ResourceError as error:
            log(str(error))
            return _LATER
        missing = [
            account for account in self._keys.recipients.accounts_of(query["recipient"]) if self._problem(account)
        ]
        if not missing:
            return _NOTHING
        if not self._ledger.since.keys() >= set(missing):
            self.review()
        now = self._keys.now()
        lasted = max(now - self._ledger.since.get(account, now) for account in missing)
        code = "550 5.7.1" if lasted > self._grace else "450 4.7.1"
        return f"{code} the recipient has no usable OpenPGP key, and mail is stored here only encrypted"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of smtpd's: queries, each ended by an empty line."""
        with contextlib.suppress(OSError, EOFError, ValueError, asyncio.CancelledError):
            while True:
                query = await _query(reader)
                action = await asyncio.to_thread(self.answer, query)
                writer.write(f"action={action}\n\n".encode())
                await writer.drain()
        writer.close()


async def _query(reader: asyncio.StreamReader) -> dict[str, str]:
    found: dict[str, str] = {}
    length = 0
    while line := (await reader.readuntil(b"\n")).rstrip(b"\r\n"):
        length += len(line)
        if length > _LONGEST:
            raise ValueError("the query is too long")
        name, _, value = line.decode(errors="surrogateescape").partition("=")
        found[name] = value
    return found
