"""What the mail test has to know of the site and of the host."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from agent.declaration.loader import Loader
from agent.declaration.render import Renderer
from agent.declaration.values import Values
from agent.errors import ResourceError
from agent.facts import Facts
from agent.graph import Entry
from agent.host import Host
from agent.host.openpgp.keys import Key
from agent.mail.doctor.addresses import of_this_host, outside_of
from agent.mail.seal.keys import DEFAULT_HOME, DEFAULT_RECIPIENTS, Keys, NoKey, Recipients

CERTIFICATE = "/etc/state-agent/certificates/mail/fullchain.pem"
_MOST_ACCOUNTS = 20


class Parameters:
    """The states that a site selects, and the values of their parameters."""

    def __init__(self, path: Path, shipped: Path | None) -> None:
        site = Loader(path, shipped).load()
        self.states = {state.name for state in site.states}
        self._values = Values(site, Renderer(site.reader), Facts())

    def get(self, state: str, name: str) -> Any:
        """The value of a parameter of a selected state."""
        return self._values.value(state, name)


@dataclass
class MailHost:
    """One run of the mail test. `say` is told what is being done, `started` is when it began."""

    parameters: Parameters
    entries: Sequence[Entry]
    host: Host = field(default_factory=Host)
    say: Callable[[str], None] = lambda _text: None
    probe_domain: str = "gmail.com"
    send_to: str = ""
    started: float = field(default_factory=time.time)
    mute: set[int] = field(default_factory=set)
    """Ports that did not greet: nothing else is asked of them."""

    def has(self, *states: str) -> bool:
        """Whether all of these states are selected."""
        return self.parameters.states.issuperset(states)

    def get(self, state: str, name: str) -> Any:
        """The value of a parameter."""
        return self.parameters.get(state, name)

    @property
    def domain(self) -> str:
        """The mail domain."""
        return str(self.get("postfix", "domain")).lower()

    @property
    def hostname(self) -> str:
        """The name that the server gives itself."""
        return str(self.get("postfix", "hostname")).lower()

    @property
    def mailboxes(self) -> str:
        """The folder with a folder for each account."""
        return str(self.get("dovecot", "mailboxes"))

    @property
    def address(self) -> str:
        """Where the server is talked to: from outside, if that can be."""
        return self.outside or "127.0.0.1"

    @property
    def ports(self) -> list[int]:
        """What the selected states listen to for the world."""
        acme = self.has("certificate") and self.get("certificate", "provider") == "letsencrypt"
        return [25, *([80] if acme else []), *([465, 587, 993] if self.has("dovecot") else [])]

    @cached_property
    def addresses(self) -> list[str]:
        """This host's own addresses, without those that only it can reach."""
        return of_this_host(str(self.get("postfix", "inet_protocols")))

    @cached_property
    def outside(self) -> str:
        """An own address from which Postfix takes mail as from a stranger; empty where there is none."""
        return outside_of(self.addresses, self.get("postfix", "mynetworks"))

    @property
    def why_not_outside(self) -> str:
        """Why nothing can be sent as from outside."""
        if 25 in self.mute:
            return "port 25 does not answer"
        if not self.addresses:
            return "this host has only loopback addresses"
        return f"all addresses of this host ({', '.join(self.addresses)}) are in mynetworks"

    @cached_property
    def recipients(self) -> Recipients:
        """Accounts and aliases, as the sealer knows them."""
        return Recipients.read(DEFAULT_RECIPIENTS)

    @cached_property
    def keys(self) -> Keys:
        """The keyring that mail is sealed with."""
        found = Keys(DEFAULT_HOME, DEFAULT_RECIPIENTS)
        found.refresh()
        return found

    def key_problem(self, account: str) -> str:
        """Why mail for an account cannot be sealed, or nothing."""
        if not self.has("seal"):
            return ""
        try:
            self.keys.fingerprint(account)
        except NoKey as error:
            return str(error)
        except ResourceError as error:
            return error.summary
        return ""

    def key(self, account: str) -> Key:
        """The key that mail for an account is sealed to. Raises NoKey where there is none."""
        return self.host.gnupg.keys(DEFAULT_HOME)[self.keys.fingerprint(account)]

    @cached_property
    def able(self) -> list[str]:
        """The accounts that mail is sent to: those that can get any."""
        return [account for account in self.recipients.accounts if not self.key_problem(account)][:_MOST_ACCOUNTS]

    @property
    def left_out(self) -> int:
        """How many accounts nothing is sent to, because there are so many."""
        return sum(not self.key_problem(account) for account in self.recipients.accounts) - len(self.able)
