"""The host: the only room that touches the operating system.

A `Host` is made for one run. What it reads in bulk (dpkg's status, units, accounts) it keeps until `forget`, so that
many resources of a kind cost one read, and whoever changes something drops what became stale.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.host.accounts import Accounts
    from agent.host.apt.dpkg import Dpkg
    from agent.host.dns.nameservers import Nameservers
    from agent.host.files import Files
    from agent.host.mounts import Mounts
    from agent.host.netfilter.firewall import Firewall
    from agent.host.openpgp.gnupg import Gnupg
    from agent.host.postgres.connections import Postgres
    from agent.host.private import Derived
    from agent.host.systemd.units import Units


def _nothing_known(_id: str) -> Mapping[str, Any] | None:
    return None


def _files() -> Files:
    from agent.host.files import Files

    return Files()


@dataclass
class Host:
    """What resources see of the machine during one run.

    `progress` takes a line to show to whoever watches; `last_set` gives the state that the agent last set a resource
    to, by id; `run_dir` is a root-only folder that does not outlive a reboot, `state_dir` one that does; `done` holds
    what this run has already carried out and nothing on the host can tell; `notes` are for the user to read at the
    end of the run; `clock` gives the time in seconds since the epoch.

    `declared` are all resources of the site, also those that this run leaves out; `leaving` are those that it undoes.
    `confirm_within` are the seconds that
    new firewall rules stay unless somebody confirms them; `namespace` is the path of the network namespace whose
    firewall is meant, where that is not the agent's own.
    """

    run_dir: str = "/run/state-agent"
    state_dir: str = "/var/lib/state-agent"
    progress: Callable[[str], None] = lambda _text: None
    last_set: Callable[[str], Mapping[str, Any] | None] = _nothing_known
    blob: Callable[[str], bytes | None] = lambda _digest: None
    clock: Callable[[], float] = time.time
    done: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    files: Files = field(default_factory=_files)
    declared: Sequence[Any] = ()
    leaving: Sequence[Any] = ()
    confirm_within: float | None = None
    namespace: str | None = None

    @cached_property
    def dpkg(self) -> Dpkg:
        """Packages."""
        from agent.host.apt.dpkg import Dpkg

        return Dpkg(self.progress)

    @cached_property
    def units(self) -> Units:
        """systemd units."""
        from agent.host.systemd.units import Units

        return Units()

    @cached_property
    def accounts(self) -> Accounts:
        """Users and groups."""
        from agent.host.accounts import Accounts

        return Accounts()

    @cached_property
    def mounts(self) -> Mounts:
        """What is mounted where."""
        from agent.host.mounts import Mounts

        return Mounts()

    @cached_property
    def nameservers(self) -> Nameservers:
        """What nameservers said; kept for the whole run."""
        from agent.host.dns.nameservers import Nameservers

        return Nameservers()

    @cached_property
    def postgres(self) -> Postgres:
        """PostgreSQL's clusters."""
        from agent.host.postgres.connections import Postgres

        return Postgres()

    @cached_property
    def gnupg(self) -> Gnupg:
        """GnuPG homes."""
        from agent.host.openpgp.gnupg import Gnupg

        return Gnupg()

    @cached_property
    def firewall(self) -> Firewall:
        """Rules of netfilter."""
        from agent.host.netfilter.firewall import Firewall

        return Firewall(self)

    @cached_property
    def derived(self) -> Derived:
        """What follows from the content of files alone."""
        from agent.host.private import Derived

        return Derived(self.state_dir)

    def note(self, text: str) -> None:
        """Tell the user something at the end of the run, once."""
        if text not in self.notes:
            self.notes.append(text)

    def forget(self) -> None:
        """Drop everything that was read in bulk."""
        from agent.host.names import forget_names

        forget_names()
        self.files.forget()
        for part in ("dpkg", "units", "accounts", "mounts", "gnupg"):
            self.__dict__.pop(part, None)
        if "firewall" in self.__dict__:
            self.firewall.forget()
        if "postgres" in self.__dict__:
            self.postgres.forget()  # its connections stay
        if "nameservers" in self.__dict__:
            self.nameservers.forget()

    def rule_writers(self) -> set[int]:
        """Process numbers of programs that changed netfilter's rules through this since this was last asked."""
        return self.firewall.netfilter.take_writers() if "firewall" in self.__dict__ else set()

    def leave(self) -> None:
        """Give up what others may wait for: connections to databases."""
        if "postgres" in self.__dict__:
            self.postgres.leave()

    @property
    def is_root(self) -> bool:
        """Whether this process may do everything."""
        return os.geteuid() == 0
