"""A DNS record: kept by dynamic updates, or checked and listed as something to do by hand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from agent.errors import KnownAfterApply, ResourceError, Unanswered
from agent.fields import AbsolutePath, Doc, Parsed, seconds
from agent.host import Host
from agent.host.dns.data import EXAMPLES, Found, Record, normal, version_tag
from agent.host.dns.exchange import address_of
from agent.host.dns.keys import dkim_value, tlsa_value
from agent.host.dns.update import ALGORITHMS, Key, Primary
from agent.resource import Change, Manual, Prefetching, Resource, State, Undoable
from agent.secret import SecretText

_LABEL = re.compile(r"\*|[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_DEFAULT_TTL = 3600
_FILES = {"dkim_key": ("TXT", dkim_value), "tlsa_certificate": ("TLSA", tlsa_value)}
_KEY_FIELDS = ("name", "secret", "algorithm")


def record_name(text: str) -> str:
    """A name and a type, such as `_dmarc.example.net TXT`: the name in lower case and without a dot at its end."""
    words = text.split()
    if len(words) != 2 or words[1].upper() not in EXAMPLES:
        raise ValueError(
            f'"{text}" is not a name and a type, such as "_dmarc.example.net TXT"; types: {", ".join(EXAMPLES)}'
        )
    name = words[0].lower().removesuffix(".")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, name.split("."))):
        raise ValueError(f'"{words[0]}" is not a domain name (write one with other letters as its "xn--" form)')
    return f"{name} {words[1].upper()}"


def ttl_seconds(given: int | str) -> int:
    """A time to live: seconds, or a duration such as `1h`."""
    count = seconds(given) if isinstance(given, str) else given
    if count != int(count) or not 0 <= count < 2**31:
        raise ValueError(f'{given} is not a time to live: whole seconds, or a duration such as "1h"')
    return int(count)


def nameserver(text: str) -> str:
    """A nameserver: host, and port where it is another than 53."""
    address_of(text)
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsRecord(Resource, Prefetching, Manual, Undoable):
    """All values of one type at one name.

    With `provider = "rfc2136"` the agent updates them at the zone's primary server. With `provider = "manual"`, for a
    zone that is kept elsewhere, it only asks: a difference is listed as something to do by hand, each time, and makes
    nothing fail; what cannot be asked is said, and makes nothing fail either.

    The nameservers of the zone are asked themselves. Values compare as DNS has them: in any order, whatever the case
    and dots of names, however a long text is cut into strings.
    """

    kind: ClassVar[str] = "dns_record"
    waits: ClassVar[bool] = True
    reads_with: ClassVar[tuple[str, ...]] = ("dns.resolver",)
    looks_every: ClassVar[str] = "1h"
    example: ClassVar[str] = (
        '[dns_record."_dmarc.example.net TXT"]\nvalue = "v=DMARC1; p=none; rua=mailto:postmaster@example.net"\n\n'
        '[dns_record."mail.example.net A"]\nvalue = "192.0.2.25"\nttl = "1h"\nprovider = "rfc2136"\n'
        'server = "127.0.0.1"\nkey = { name = "agent", secret = "{{ secrets.tsig }}" }\n\n'
        '[secrets.tsig]\nfile = "/etc/state-agent/secrets/tsig"\n'
    )

    name: Annotated[
        Annotated[str, Parsed(record_name)],
        Doc(f"Name and type: `mail.example.net A`; types are {', '.join(EXAMPLES)}"),
    ]
    ensure: Annotated[
        Literal["present", "absent"], Doc("`absent`: these values, or without `value` all of this type, are not there")
    ] = "present"
    value: Annotated[
        str | list[str] | None,
        Doc(
            "The value, or a list of them, as in a zone file; names with or without a dot at their end. A TXT is the "
            "text itself, however long, or strings in quotes"
        ),
    ] = None
    dkim_key: Annotated[
        AbsolutePath | None,
        Doc(
            "Instead of `value`, of a TXT: a file on the host with the key that DKIM signs with (PEM, private or "
            "public, as opendkim-genkey makes it); the value is made from it, and known once it is there"
        ),
    ] = None
    tlsa_certificate: Annotated[
        AbsolutePath | None,
        Doc(
            "Instead of `value`, of a TLSA: a file on the host with the certificate (PEM); the value is `3 1 1` and "
            "the digest of its public key"
        ),
    ] = None
    ttl: Annotated[
        Annotated[int | str, Parsed(ttl_seconds)] | None,
        Doc("How long others may keep it: seconds or a duration; default for new ones `1h`. Not compared by `manual`"),
    ] = None
    provider: Annotated[
        Literal["manual", "rfc2136"], Doc("Who keeps it: people, or the agent by dynamic updates (RFC 2136)")
    ] = "manual"
    exclusive: Annotated[
        bool | None,
        Doc(
            "Whether other values of this type at this name go. Default true; of TXT only those go that begin with the "
            "same tag (`v=spf1`, `v=DMARC1`), or that were declared here before"
        ),
    ] = None
    server: Annotated[
        Annotated[str, Parsed(nameserver)] | None,
        Doc("Which nameserver to ask and to update, `HOST`, `HOST:PORT` or `[IPV6]:PORT`; default those of the zone"),
    ] = None
    zone: Annotated[str | None, Doc("The zone to update, where the server cannot tell")] = None
    key: Annotated[
        dict[str, str | SecretText] | None,
        Doc(
            "The TSIG key for updates: `name`, `secret` (base64, from `[secrets]`) and `algorithm` (default "
            "`hmac-sha256`)"
        ),
    ] = None

    @property
    def record(self) -> Record:
        """Name and type."""
        name, _, type = self.name.partition(" ")
        return Record(name, type)

    @property
    def _given(self) -> list[str]:
        given = [self.value] if isinstance(self.value, str) else self.value or []
        return normal(self.record.type, given)

    @property
    def _files(self) -> dict[str, str]:
        return {field: path for field in _FILES if (path := getattr(self, field)) is not None}

    def values(self, host: Host) -> list[str]:
        """The declared values; raises KnownAfterApply while a file that they are made from is not there."""
        made = [_FILES[field][1](host, path) for field, path in self._files.items()]
        return normal(self.record.type, made) if made else self._given

    @property
    def seconds_to_live(self) -> int:
        """How long others may keep it."""
        return _DEFAULT_TTL if self._ttl is None else self._ttl

    @property
    def _ttl(self) -> int | None:
        return None if self.ttl is None else ttl_seconds(self.ttl)

    def problems(self) -> Iterable[str]:
        """What is wrong across its fields."""
        try:
            count = len(self._given)
        except ValueError as error:
            yield f"value: {error}"
        else:
            if not count and not self._files and self.ensure == "present":
                yield "value is needed"
            if len(self._files) + bool(count) > 1:
                yield f"only one of value, {', '.join(_FILES)} can be given"
            if count > 1 and self.record.type == "CNAME":
                yield "value: an alias (CNAME) has one value"
        for field in self._files:
            if self.record.type != _FILES[field][0]:
                yield f"{field} is of records of type {_FILES[field][0]}, not {self.record.type}"
            if self.ensure == "absent":
                yield f'{field} has no meaning for ensure = "absent"'
        if self.provider == "manual":
            yield from (f"{key} has a meaning only for rfc2136" for key in ("key", "zone") if getattr(self, key))
            if self.on_removal == "undo":
                yield 'on_removal = "undo" has no meaning for manual: the agent makes nothing'
        yield from self._key_problems()

    def _key_problems(self) -> Iterable[str]:
        key = self.key or {}
        yield from (
            f'key: "{name}" is not known; there are {", ".join(_KEY_FIELDS)}' for name in set(key) - {*_KEY_FIELDS}
        )
        if self.key is not None and not {"name", "secret"} <= key.keys():
            yield "key: name and secret are needed"
        if isinstance(key.get("secret"), str):
            yield 'key: the secret stands here in clear; write "{{ secrets.NAME }}" and declare [secrets.NAME]'
        if key.get("algorithm", ALGORITHMS[2]) not in ALGORITHMS:
            yield f"key: algorithm is one of {', '.join(ALGORITHMS)}"

    @classmethod
    def prefetch(cls, host: Host, resources: Sequence[DnsRecord]) -> None:
        host.nameservers.ask_all(
            (resource.record, resource.server) for resource in resources if not resource._by_primary
        )

    @property
    def _by_primary(self) -> bool:
        return self.provider == "rfc2136" and self.server is None

    def desired(self, host: Host) -> State | None:
        if self.ensure == "absent":
            return None
        state: dict[str, Any] = {"value": self.values(host)}
        if self.ttl is not None and self.provider == "rfc2136":
            state["ttl"] = self._ttl
        return state

    def read(self, host: Host) -> State | None:
        try:
            found = host.nameservers.find(self.record, self._server(host))
        except Unanswered as error:
            if self.provider == "manual":
                raise
            raise ResourceError(error.summary, hint="is the server up, and does it serve this zone?") from None
        values = self._of_concern(host, found)
        if found is None or not values:
            return None
        return {"value": values} | ({"ttl": found.ttl} if self.ttl is not None and found.ttl is not None else {})

    def _server(self, host: Host) -> str | None:
        return host.nameservers.primary(self.record.name) if self._by_primary else self.server

    def _of_concern(self, host: Host, found: Found | None) -> list[str]:
        """Of the values that are there, those that this resource speaks of."""
        before = (host.last_set(self.id) or {}).get("value", ())
        try:
            declared = self.values(host)
        except KnownAfterApply:  # the file is gone, and the record is to go as well
            declared = list(before)
        exclusive = self.record.type != "TXT" if self.exclusive is None else self.exclusive
        present = list(found.values) if found is not None else []
        if (exclusive and self.ensure == "present") or not (declared or self._files):
            return present
        tags = {version_tag(value) for value in declared if self.ensure == "present"} - {None}
        return [value for value in present if value in declared or value in before or version_tag(value) in tags]

    def apply(self, host: Host, change: Change) -> None:
        self._put(host, self.values(host) if change.desired is not None else [], self._ttl)

    def _put(self, host: Host, values: Sequence[str], ttl: int | None) -> None:
        """Have these values, beside those of others."""
        if self.provider == "manual":
            raise ResourceError(f"{self.name} is kept by hand")
        try:
            server = self._server(host) or ""
            found = host.nameservers.find(self.record, server)
            others = set(found.values if found and not found.alias else ()) - set(self._of_concern(host, found))
            keep = found.ttl if found is not None and found.ttl is not None else _DEFAULT_TTL
            primary = Primary(server, self.zone, self._key())
            wanted = sorted({*values, *others})
            primary.put(host.nameservers, self.record, wanted, keep if ttl is None else ttl)
        except Unanswered as error:
            raise ResourceError(error.summary) from None

    def _key(self) -> Key | None:
        if self.key is None:
            return None
        given = {name: text.reveal() if isinstance(text, SecretText) else text for name, text in self.key.items()}
        return Key(given["name"], given.get("algorithm", ALGORITHMS[2]), given["secret"])

    def cannot_undo(self, host: Host, before: State | None) -> str:  # noqa: ARG002
        if self.provider == "manual":
            raise ResourceError(f"{self.name} is kept by hand")
        return ""

    def undo(self, host: Host, before: State | None) -> None:
        if before is None:
            self._put(host, [], None)
        else:
            self._put(host, before["value"], before.get("ttl"))

    def by_hand(self, change: Change) -> str:
        if self.provider == "rfc2136":
            return ""
        if change.desired is None:
            return f"remove {self.record.name} {self.record.type}"
        return f"{'set' if change.actual is None else 'change'} {self.record.name} {self.record.type}"

    def preview(self, host: Host, change: Change) -> Sequence[str]:  # noqa: ARG002
        """The lines of the zone file that are to be there, where the change itself does not say it."""
        if change.desired is None or (self.provider == "rfc2136" and change.actual is not None):
            return ()
        return [self.record.line(value, self._ttl) for value in change.desired["value"]]
