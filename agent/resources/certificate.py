"""A certificate and its key, at paths that stay: from an ACME server, or self-signed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from agent.errors import Degraded, NotPermitted, ResourceError
from agent.fields import AbsolutePath, AccountName, Doc, Duration, Mode, Parsed, email, port, seconds
from agent.host import Host
from agent.host.tls.acme import Order, acme_url, domain, moment, obtain, pause
from agent.host.tls.store import Access, Store, label, temporaries
from agent.host.tls.x509 import Certificate as Parts
from agent.host.tls.x509 import KeyType, recalled, self_signed
from agent.resource import Change, Resource, State, Undoable
from agent.sources import At, Below, Source

_SELF_SIGNED = "self-signed"
_SOUND = "sound"
_IN_PLACE = "in place"
_NOT_DUE = "not due"
_BITS = {"ecdsa": (256, 384), "rsa": (2048, 3072, 4096)}
_ACCESS = ("mode", "owner", "group")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate(Resource, Undoable):
    """A TLS certificate and its key, renewed in time, at paths that stay the same.

    `/etc/state-agent/certificates/NAME/` holds `fullchain.pem` (the certificate and its chain), `privkey.pem`, and
    `combined.pem` (key, then chain, for programs that read one file, such as Postfix's `smtpd_tls_chain_files`).
    They are replaced together; what has to read them again names this resource in `reload_on` or `restart_on`.

    A self-signed certificate is there at once, so that services start. certbot then asks the ACME server for a real
    one, which takes its place; it must be installed, and answers the challenge itself on port 80, where nothing else
    may listen. To declare it is to agree to the server's terms of service. When the server gives none, the resource
    fails and says why, what was there stays, and what needs it goes on. The server is then left in peace for an hour,
    after more failures for up to a day, and is never asked for more than four certificates of the same domains a week.

    The agent renews it, in `agent apply` or while it is resident; certbot's own timer does not know of it. It is issued
    anew when `domains`, the key type or the ACME server change, and when key and certificate do not belong
    together or are not those that the agent put there. Removing it does not revoke it.
    """

    kind: ClassVar[str] = "certificate"
    not_undone: ClassVar[tuple[str, ...]] = ("renewal", "paths")
    undone_whole: ClassVar[bool] = True
    looks_every: ClassVar[str] = "6h"
    example: ClassVar[str] = (
        '[certificate.mail]\nprovider = "selfsigned"\ndomains = ["mail.example.net", "example.net"]\ngroup = "mail"\n'
    )

    name: Annotated[Annotated[str, Parsed(label)], Doc("A label")]
    ensure: Annotated[Literal["present", "absent"], Doc("Whether it is there")] = "present"
    provider: Annotated[
        Literal["letsencrypt", "selfsigned"],
        Doc("Who signs it: the ACME server at `directory_url` (by default Let's Encrypt), or its own key"),
    ] = "letsencrypt"
    domains: Annotated[
        list[Annotated[str, Parsed(domain)]], Doc("The domains that it is for; `*.` only where it is self-signed")
    ] = field(default_factory=list)
    email: Annotated[
        Annotated[str, Parsed(email)] | None,
        Doc("Where the ACME server writes to; counts when the account with it is made"),
    ] = None
    directory_url: Annotated[
        Annotated[str, Parsed(acme_url)],
        Doc(
            "The directory of the ACME server; Let's Encrypt's own for tests is `https://acme-staging-v02.api.letsencrypt.org/directory`"
        ),
    ] = "https://acme-v02.api.letsencrypt.org/directory"
    ca_file: Annotated[
        AbsolutePath | None, Doc("Certificates that an ACME server of your own is verified with; PEM")
    ] = None
    http_port: Annotated[
        Annotated[int, Parsed(port)], Doc("The port of this host that port 80 of the domains leads to")
    ] = 80
    renew_before: Annotated[Duration, Doc("How long before its end it is renewed; at most a third of its lifetime")] = (
        "30d"
    )
    key_type: Annotated[Literal["ecdsa", "rsa"], Doc("The algorithm of the key")] = "ecdsa"
    key_size: Annotated[
        int | None, Doc("Bits of the key: for ecdsa 256 (the default) or 384, for rsa 2048 (the default), 3072 or 4096")
    ] = None
    directory: Annotated[
        AbsolutePath | None,
        Doc("The folder for its files, which is made; by default `/etc/state-agent/certificates/NAME`"),
    ] = None
    owner: Annotated[AccountName, Doc("The owner of the files that hold the key")] = "root"
    group: Annotated[AccountName | None, Doc("A group that may read the key; by default only the owner may")] = None
    mode: Annotated[
        Mode | None, Doc('Permission bits of the files that hold the key; default `"0600"`, with a group `"0640"`')
    ] = None

    def problems(self) -> Iterable[str]:
        """What is wrong across its fields."""
        if self.ensure == "present" and not self.domains:
            yield "domains is needed: the names that the certificate is for"
        if self.provider == "letsencrypt" and any(name.startswith("*.") for name in self.domains):
            yield 'a domain with "*." cannot be proved over port 80; list the names, or use provider = "selfsigned"'
        if self.key_size is not None and self.key_size not in _BITS[self.key_type]:
            yield f"key_size: {self.key_type} has {', '.join(map(str, _BITS[self.key_type]))}, not {self.key_size}"
        if self.mode is not None and int(self.mode, 8) & 0o7137:
            yield f"mode: {self.mode} lets others than owner and group read the key; the most is 0640"

    @property
    def folder(self) -> str:
        """The folder of its files."""
        return self.directory or f"/etc/state-agent/certificates/{self.name}"

    @property
    def _key(self) -> KeyType:
        return KeyType(self.key_type, self.key_size or _BITS[self.key_type][0])

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.domains))

    @property
    def _order(self) -> Order:
        return Order(self.directory_url, self._names, self._key, self.email, self.ca_file, self.http_port)

    @property
    def _access(self) -> Access:
        return Access(self.mode or ("0640" if self.group else "0600"), self.owner, self.group or "root")

    def _store(self, host: Host) -> Store:
        return Store(host.files, self.folder, self.links)

    def desired(self, host: Host) -> State | None:  # noqa: ARG002
        if self.ensure == "absent":
            return None
        issuer = self.directory_url if self.provider == "letsencrypt" else _SELF_SIGNED
        access = self._access
        return {
            "pair": _SOUND,
            "issuer": issuer,
            "domains": sorted(self._names),
            "key": str(self._key),
            "renewal": _NOT_DUE,
            "paths": _IN_PLACE,
            "mode": access.mode,
            "owner": access.owner,
            "group": access.group,
        }

    def read(self, host: Host) -> State | None:
        store = self._store(host)
        version = store.version()
        if version is None:
            foreign = self.ensure == "present" and store.exists()
            return {"pair": "there is none of the agent's making"} if foreign else None
        misplaced = store.misplaced()
        state: dict[str, Any] = {"version": version, "pair": _SOUND}
        state["paths"] = f"{', '.join(misplaced)} was replaced" if misplaced else _IN_PLACE
        access = store.access(version)
        if access is not None:
            state |= {name: getattr(access, name) for name in _ACCESS}
        try:
            pair = store.read(version)
            parts = recalled(pair, host.derived)
        except NotPermitted:
            raise
        except ResourceError as error:
            return state | {"pair": error.summary}
        if not parts.fits_key:
            state["pair"] = "the key is not that of the certificate"
        state["issuer"] = store.issuer(version, pair) or f"changed by hand: {parts.issuer}"
        return state | {"domains": list(parts.domains), "key": parts.key} | self._renewal(host, parts)

    def _renewal(self, host: Host, parts: Parts) -> dict[str, str]:
        now = host.clock()
        if now < parts.renew_at(seconds(self.renew_before)):
            return {"renewal": _NOT_DUE}
        days = int(parts.not_after - now) // 86400
        when = f"expires in {days} days" if parts.not_after > now else "expired"
        return {"renewal": f"{when} ({moment(parts.not_after)})"}

    def apply(self, host: Host, change: Change) -> None:
        store = self._store(host)
        if change.desired is None:
            store.remove()
            return
        self._make_default_parents(host)
        actual = change.actual or {}
        version = actual.get("version")
        if (
            version is not None
            and actual["pair"] == _SOUND
            and not change.touches("issuer", "domains", "key", "renewal")
        ):
            store.set_access(version, self._access)
            store.place()
            return
        if self.provider == "selfsigned":
            self._sign(host, store)
            return
        stale = actual.get("issuer") == _SELF_SIGNED and change.touches("domains", "key", "renewal")
        if version is not None and actual["pair"] == _SOUND and not stale:
            store.set_access(version, self._access)
            self._issue(host, store, usable=True)
        else:
            self._issue(host, store, usable=False)

    def _make_default_parents(self, host: Host) -> None:
        if self.directory is None:
            for path in ("/etc/state-agent", "/etc/state-agent/certificates"):
                if host.files.read_entry(path, self.links) is None:
                    host.files.make_directory(path, "0755", links=self.links)

    def _sign(self, host: Host, store: Store) -> None:
        store.put(self_signed(self._key, self._names, host.clock()), _SELF_SIGNED, self._access)

    def _issue(self, host: Host, store: Store, *, usable: bool) -> None:
        """Have it issued; until it is, and if it is not, a usable pair is there."""
        if usable:
            store.place()
        else:
            self._sign(host, store)
        host.progress(f"asking {urlsplit(self.directory_url).hostname} for a certificate")
        try:
            pair = obtain(store.acme, self._order, host.clock())
        except ResourceError as error:
            stays = "the certificate of before stays" if usable else "a self-signed certificate is there instead"
            raise Degraded(
                f"{error.summary}; {stays}", detail=error.detail, hint=error.hint, changed=not usable
            ) from None
        store.put(pair, self.directory_url, self._access)

    def cannot_undo(self, host: Host, before: State | None) -> str:  # noqa: ARG002
        if before is not None and ("version" not in before or before["pair"] != _SOUND):
            raise ResourceError("what was there before was no certificate of the agent's, and was not kept")
        return ""

    def undo(self, host: Host, before: State | None) -> None:
        self.cannot_undo(host, before)
        store = self._store(host)
        if before is None:
            store.remove()
        else:
            store.switch(before["version"])
            store.set_access(before["version"], Access(*(before[name] for name in _ACCESS)))

    def summary(self, host: Host, change: Change) -> str:
        if change.desired is None or self.provider == "selfsigned":
            return ""
        if not change.touches("pair", "issuer", "domains", "key", "renewal"):
            return ""
        server = urlsplit(self.directory_url).hostname
        waiting = pause(self._store(host).acme, self._order, host.clock())
        issue = f"{server} is left in peace, {waiting}" if waiting else f"issued by {server}"
        renewal = (change.actual or {}).get("renewal", _NOT_DUE)
        if renewal != _NOT_DUE:
            return f"{renewal}: {issue}"
        return f"self-signed at once, then {issue}" if (change.actual or {}).get("pair") != _SOUND else issue

    def watched(self) -> Iterable[Source]:
        return [At(self.folder), Below(self.folder)]

    def implied_requires(self) -> Iterable[str]:
        packages = ["apt:certbot"] if self.provider == "letsencrypt" else []
        return [*packages, f"user:{self.owner}", *([f"group:{self.group}"] if self.group else [])]

    def paths(self) -> Iterable[str]:
        return (self.folder,)

    def temporaries(self) -> Iterable[str]:
        return temporaries(self.folder)
