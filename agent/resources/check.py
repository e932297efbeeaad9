"""An acceptance check: a command or a connection that has to turn out as expected."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from agent.errors import ResourceError
from agent.fields import Argv, Doc, Parsed, TimeSpan, seconds
from agent.host import Host
from agent.host.probe import probe, service
from agent.host.run import run
from agent.resource import Change, Checking, Resource, State

_EXPECTED = {"status": int, "output": str, "banner": str}
_SHOWN_LINES = 12


def _service_url(url: str | None) -> str | None:
    if url is not None:
        service(url)
    return url


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Resource, Checking):
    """Something that has to be true of the host; it never changes anything.

    `agent doctor` runs all checks; an apply runs those for which something that they require was changed, and
    fails with them. A command is run once; a connection that is refused is tried again until the time is over.
    """

    kind: ClassVar[str] = "check"
    example: ClassVar[str] = (
        '[check.localhost-resolves]\nrun = ["getent", "ahosts", "localhost"]\n'
        'expect = { status = 0, output = "127.0.0.1" }\n'
    )

    name: Annotated[str, Doc("A label")]
    run: Annotated[Argv | None, Doc("A command; no shell reads it")] = None
    connect: Annotated[
        str | None,
        Parsed(_service_url),
        Doc(
            "A service to connect to: `tcp://host:port`, `tls://host:port` (handshake), `smtp://host` (greeting, EHLO),"
            " `imap://host` (greeting), `smtps://host`, `imaps://host` (TLS at once), `unix:///path` (a socket); IPv6 "
            "addresses in brackets"
        ),
    ] = None
    send: Annotated[str | None, Doc("What to say first over `tcp`, `tls` and `unix`")] = None
    expect: Annotated[
        int | str | dict[str, int | str] | None,
        Doc(
            "An exit status (default 0), or a regular expression to be found in the output or in what the service "
            "says, or a table of `status`, `output` and `banner`"
        ),
    ] = None
    timeout: Annotated[TimeSpan, Doc("How long it may take")] = "10s"
    verify: Annotated[bool, Doc("Whether the certificate must be valid, and for this host name")] = False

    def problems(self) -> Iterable[str]:
        """What is wrong across its fields."""
        if (self.run is None) == (self.connect is None):
            yield "one of run and connect is needed"
        wanted = self._wanted()
        for key in wanted.keys() - _EXPECTED.keys():
            yield f'expect: "{key}" is not known; there are status, output and banner'
        for key, kind in _EXPECTED.items():
            value = wanted.get(key)
            if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
                yield f"expect: {key} must be {'a whole number' if kind is int else 'a string'}"
            elif isinstance(value, str):
                try:
                    re.compile(value)
                except re.error as error:
                    yield f'expect: "{value}" is not a regular expression: {error}'
        for key in wanted.keys() & ({"banner"} if self.run is not None else {"status", "output"}):
            yield f"expect: {key} has no meaning with {'run' if self.run is not None else 'connect'}"
        if self.send is not None and not (self.connect and not service(self.connect).protocol):
            yield "send has a meaning only with tcp, tls and unix"
        if self.verify and not (self.connect and service(self.connect).encrypted):
            yield "verify has a meaning only with tls, smtps and imaps"

    def _wanted(self) -> dict[str, Any]:
        if isinstance(self.expect, dict):
            return dict(self.expect)
        if isinstance(self.expect, str):
            return {"banner" if self.connect is not None else "output": self.expect}
        return {} if self.expect is None else {"status": self.expect}

    def desired(self, host: Host) -> State | None:  # noqa: ARG002
        return {}

    def read(self, host: Host) -> State | None:  # noqa: ARG002
        return {}

    def apply(self, host: Host, change: Change) -> None:
        """Nothing: a check never has a change."""

    def check(self, host: Host) -> str:  # noqa: ARG002
        """Run the check; gives what was seen, raises ResourceError with what was expected and what came."""
        wanted = self._wanted()
        if self.connect is not None:
            limit, banner = seconds(self.timeout), wanted.get("banner")
            return probe(self.connect, banner=banner, timeout=limit, verify=self.verify, send=self.send or "")
        return self._run(self.run or [], wanted.get("status", 0), wanted.get("output"))

    def _run(self, command: list[str], status: int, output: str | None) -> str:
        result = run(command, timeout=seconds(self.timeout), accept=None)
        said = result.stdout + result.stderr
        found = re.search(output, said, re.MULTILINE) if output is not None else None
        if result.status == status and (output is None or found):
            return (_line_of(said, found.start()) if found else "") or f"exit status {status}"
        expected = f"exit status {status}" + (f" and {output}" if output is not None else "")
        came = "\n".join([f"exit status {result.status}", *said.strip().splitlines()[-_SHOWN_LINES:]])
        raise ResourceError(
            f"{shlex.join(command)} did not turn out as expected", detail=f"expected: {expected}\ncame: {came}"
        )


def _line_of(text: str, place: int) -> str:
    return text[text.rfind("\n", 0, place) + 1 :].partition("\n")[0].strip()
