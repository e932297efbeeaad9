"""A command that runs until its guards say that there is no need, once, or when something changes."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from agent.fields import AbsolutePath, AccountName, Argv, Doc, TimeSpan, seconds
from agent.host import Host
from agent.host.run import Result, find_program, run
from agent.resource import Change, Refreshable, Resource, State

_WANTED = {"unless": "exit status 0", "only_if": "another exit status than 0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Resource, Refreshable):
    """A program with its arguments; no shell reads them.

    With guards it runs when `creates` is not there and `unless` fails and `only_if` succeeds, of those that are given;
    afterwards they are asked again, and it fails if they would still have it run (`only_if` alone is not asked again).
    With `refresh_on` it runs when one of those was changed, if the guards do not say otherwise. With neither it
    runs once, and again when `run`, `cwd`, `user` or `env` are changed. What it did cannot be undone.
    """

    kind: ClassVar[str] = "command"
    example: ClassVar[str] = (
        '[command.dhparam]\nrun = ["openssl", "dhparam", "-dsaparam", "-out", "/etc/ssl/dhparam.pem", "2048"]\n'
        'creates = "/etc/ssl/dhparam.pem"\n'
    )
    pending: ClassVar[str] = "runs first"
    shares_path: ClassVar[bool] = True
    """What `creates` names may be declared by another resource too."""

    name: Annotated[str, Doc("A label")]
    run: Annotated[Argv, Doc("The program and its arguments; run with the PATH that root has and `LC_ALL=C.UTF-8`")]
    creates: Annotated[AbsolutePath | None, Doc("A path that it makes; no need to run where that is there")] = None
    unless: Annotated[Argv | None, Doc("A command that ends with exit status 0 where there is no need to run")] = None
    only_if: Annotated[Argv | None, Doc("A command that ends with exit status 0 where there is a need to run")] = None
    refresh_on: Annotated[
        list[str], Doc("References: it runs only when one of these was changed, after all of them")
    ] = field(default_factory=list)
    user: Annotated[AccountName | None, Doc("Who runs it and its guards; root where not given")] = None
    cwd: Annotated[AbsolutePath | None, Doc("The directory that it and its guards run in")] = None
    env: Annotated[
        dict[str, str],
        Doc("Environment variables. No secrets: all that it starts inherits them; put those into a file that it reads"),
    ] = field(default_factory=dict)
    timeout: Annotated[TimeSpan, Doc("How long it, or a guard, may take before it is ended with all it started")] = "5m"
    sensitive: Annotated[bool, Doc("Neither its arguments nor its output are ever shown")] = False

    def problems(self) -> Iterable[str]:
        """What is wrong across its fields."""
        for key in ("run", "unless", "only_if"):
            words: list[str] = getattr(self, key) or [""]
            if "/" in words[0] and not words[0].startswith("/") and self.cwd is None:
                yield f'{key}: "{words[0]}" is relative to no directory; set cwd, or write the absolute path'
        for name, value in self.env.items():
            if not name or "=" in name or "\0" in name + value:
                yield f'env: "{name}" cannot be set: a name is not empty and has no "=", and nothing holds a NUL'

    def desired(self, host: Host) -> State | None:  # noqa: ARG002
        if self.refresh_on:
            return {}
        return self._guards() or {"ran": self._digest()}

    def _guards(self) -> dict[str, str]:
        """The guards that are given, with what each says where there is no need to run."""
        given = {"creates": self.creates, "unless": self.unless and _WANTED["unless"]}
        given["only_if"] = self.only_if and _WANTED["only_if"]
        return {guard: wanted for guard, wanted in given.items() if wanted}

    def _digest(self) -> str:
        asked = json.dumps([self.run, self.cwd, self.user, self.env], sort_keys=True)
        return hashlib.blake2b(asked.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()

    def read(self, host: Host) -> State | None:
        if self.refresh_on:
            return {}
        if not self._guards():
            return self._read_once(host)
        # What only_if alone guards has no sign of being done on the host: that it ran is all there is to know.
        if self.id in host.done and not self.creates and not self.unless:
            return self.desired(host)
        return self._need(host) or self.desired(host)

    def _read_once(self, host: Host) -> State | None:
        ran = self._digest() if self.id in host.done else (host.last_set(self.id) or {}).get("ran")
        if ran != self._digest():
            find_program(self._words(self.run)[0])
        return None if ran is None else {"ran": ran}

    def _need(self, host: Host) -> dict[str, str] | None:
        """What the guards say where it has to run, else None."""
        said: dict[str, str] = {}
        if self.creates is not None:
            if host.files.exists(self.creates):
                return None
            said["creates"] = "missing"
        if self.unless is not None:
            result = self._start(self.unless, accept=None)
            if result.ended_well:
                return None
            said["unless"] = f"exit status {result.status}"
        if self.only_if is not None:
            if not self._start(self.only_if, accept=None).ended_well:
                return None
            said["only_if"] = "exit status 0"
        find_program(self._words(self.run)[0])
        return said

    def _words(self, command: Sequence[str]) -> list[str]:
        program = command[0]
        if "/" in program:
            program = os.path.join(self.cwd or "/", program)
        return [program, *command[1:]]

    def _start(self, command: Sequence[str], accept: Sequence[int] | None) -> Result:
        return run(
            self._words(command),
            timeout=seconds(self.timeout),
            env=self.env,
            cwd=self.cwd,
            user=self.user,
            accept=accept,
            quiet=self.sensitive,
        )

    def apply(self, host: Host, change: Change) -> None:  # noqa: ARG002
        self._start(self.run, accept=(0,))
        host.done.add(self.id)

    def listens_to(self) -> Sequence[str]:
        return self.refresh_on

    def refresh_action(self, causes: Sequence[str]) -> str:  # noqa: ARG002
        return "run"

    def fulfils_refresh(self, change: Change) -> bool:  # noqa: ARG002
        """Never: one that refreshes has no change of its own."""
        return False

    def refresh(self, host: Host, causes: Sequence[str]) -> None:  # noqa: ARG002
        if not self._guards() or self._need(host) is not None:
            self._start(self.run, accept=(0,))

    def summary(self, host: Host, change: Change) -> str:  # noqa: ARG002
        return "" if self.sensitive else shlex.join(self.run)

    def implied_requires(self) -> Iterable[str]:
        if self.user is not None:
            yield f"user:{self.user}"
        if self.cwd is not None:
            yield from (f"{kind}:{self.cwd}" for kind in ("directory", "link", "gocryptfs"))

    def paths(self) -> Iterable[str]:
        return () if self.creates is None else (self.creates,)
