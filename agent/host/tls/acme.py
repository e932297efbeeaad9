"""Certificates from an ACME server (RFC 8555), through certbot(1), and never more often than the server can bear.

certbot only gets a signing request and proves that the names are ours; the key stays here. Its folder is the agent's
own, so that certbot's timer and other certificates of the host are left alone. `attempts.json` in it remembers when
the server was asked: after a failure it is left in peace for an hour, then two, four … up to a day, and no set of names
gets more than four certificates in a week (Let's Encrypt allows five). A changed request may be tried at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.errors import CommandFailed, ResourceError
from agent.fields import hostname
from agent.host.run import find_program, run
from agent.host.tls.x509 import KeyType, Pair, key_pem, new_key, request

_TIMEOUT = 300.0
_HOUR = 3600.0
_WEEK = 7 * 24 * _HOUR
_LONGEST_PAUSE = 24 * _HOUR
_MOST_IN_A_WEEK = 4
_HINTS: Sequence[tuple[str, str]] = (
    (
        r"rateLimited|too many (certificates|failed|new orders|registrations|currently pending)",
        "the server has had enough of it for now: it says above when to come back",
    ),
    (
        r"Could not bind TCP port|Problem binding to port",
        "something else listens on port {port} (ss -ltnp), and certbot needs it for a moment",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "nobody that this host trusts vouches for {url}: where the server is your own, name its certificate in ca_file",
    ),
    (
        r"ValueError: Requesting |HTTPSConnectionPool|ConnectionError|Max retries exceeded",
        "the server {url} cannot be reached: is the network up, is directory_url right?",
    ),
    (
        r"Type:\s*dns|NXDOMAIN|DNS problem|no valid A records|no valid IP addresses",
        "do the A and AAAA records of these domains exist and lead here? see `agent dns --check`",
    ),
    (
        r"Type:\s*unauthorized|urn:ietf:params:acme:error:unauthorized",
        "another machine or program answered: do the A and AAAA records lead here, is port 80 forwarded here?",
    ),
    (
        r"Type:\s*connection|Timeout during connect|Connection refused|likely firewall",
        "is port 80 of these domains reachable from outside: firewall, router?",
    ),
)
_NO_ACCOUNT = re.compile(r"^Account .* not found|accountDoesNotExist", re.MULTILINE)
_NOISE = re.compile(r"^(Saving debug log to .*|Ask for help or search.*|Plugins selected:.*|- - -[- ]*|Hint: .*|)$")
_SHOWN_LINES = 14


def domain(text: str) -> str:
    """A domain that a certificate is for; `*.` before it stands for every name below it."""
    hostname(text.removeprefix("*."))
    return text.lower().removesuffix(".")


def acme_url(text: str) -> str:
    """The directory of an ACME server."""
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError(f'"{text}" is not the directory of an ACME server: an address that begins with "https://"')
    return text


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of an ACME server. `ca_file` verifies the server itself, where the system's own list does not."""

    url: str
    domains: tuple[str, ...]
    key: KeyType
    email: str | None = None
    ca_file: str | None = None
    http_port: int = 80

    @property
    def names(self) -> list[Any]:
        """What the server counts certificates by."""
        return [self.url, *self.domains]

    @property
    def request(self) -> str:
        """What makes it another request, which may succeed where the last one failed."""
        return json.dumps([self.url, self.domains, str(self.key), self.email, self.ca_file, self.http_port])


class Attempts:
    """When the server was asked, kept in a file; times are seconds since the epoch."""

    def __init__(self, folder: str) -> None:
        self.path = f"{folder}/attempts.json"
        self._failed: dict[str, Any] = {}
        self._issued: list[tuple[float, Any]] = []
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(Path(self.path).read_text(encoding="utf-8"))
            self._issued = [(float(at), of) for at, of in kept["issued"]]
            types = {"request": str, "at": float, "times": int, "why": str}
            self._failed = {name: kind(kept["failed"][name]) for name, kind in types.items()}

    def pause(self, order: Order, now: float) -> tuple[float, str] | None:
        """Until when the server is left in peace, and why; None where it may be asked now."""
        failed = self._failed
        if failed.get("request") == order.request:
            again = failed["at"] + min(_HOUR * 2 ** (failed["times"] - 1), _LONGEST_PAUSE)
            if failed["at"] <= now < again:
                return again, f"the last attempt failed ({failed['why']})"
        issued = sorted(at for at, of in self._issued if of == order.names and now - _WEEK < at <= now)
        if len(issued) >= _MOST_IN_A_WEEK:
            return issued[-_MOST_IN_A_WEEK] + _WEEK, f"{len(issued)} certificates were issued within a week"
        return None

    def failed(self, order: Order, now: float, why: str) -> None:
        """Note that an attempt failed."""
        times = min(self._failed["times"] + 1, 9) if self._failed.get("request") == order.request else 1
        self._failed = {"request": order.request, "at": now, "times": times, "why": why}
        self._write()

    def succeeded(self, order: Order, now: float) -> None:
        """Note that a certificate was issued."""
        self._issued = [(at, of) for at, of in self._issued if now - _WEEK < at <= now]
        self._issued.append((now, order.names))
        self._failed = {}
        self._write()

    def _write(self) -> None:
        temporary = f"{self.path}.new"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump({"issued": self._issued, "failed": self._failed}, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, self.path)


def pause(folder: str, order: Order, now: float) -> str | None:
    """Why and until when the server is not asked, in words; None where it may be asked."""
    found = Attempts(folder).pause(order, now)
    if found is None:
        return None
    return f"not before {moment(found[0])}: {found[1]}"


def moment(at: float) -> str:
    """A time for people, in the zone of the host."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def obtain(folder: str, order: Order, now: float) -> Pair:
    """A new key and the certificate that the server gives for it; `folder` is the agent's own.

    Raises ResourceError with what to do where the server gives none, or must not be asked again yet; Missing
    where certbot is not installed.
    """
    find_program("certbot")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    attempts = Attempts(folder)
    if waiting := pause(folder, order, now):
        raise ResourceError(
            f"{order.url} is not asked for a certificate, {waiting}",
            hint=f"to try at once, once the cause is gone: rm {attempts.path}",
        )
    key = new_key(order.key)
    with tempfile.TemporaryDirectory(dir=folder, prefix="order-") as place:
        Path(place, "request.pem").write_bytes(request(key, order.domains))
        problem = _run(folder, place, order)
        if problem is not None and _NO_ACCOUNT.search(problem.detail):
            shutil.rmtree(f"{folder}/config/accounts", ignore_errors=True)  # the server lost it: make another one
            problem = _run(folder, place, order)
        if problem is not None:
            attempts.failed(order, now, problem.detail.rpartition("\n")[2])
            raise problem
        chain = Path(place, "fullchain.pem").read_bytes()
    attempts.succeeded(order, now)
    return Pair(chain, key_pem(key))


def _command(folder: str, place: str, order: Order) -> list[str]:
    contact = ["--email", order.email, "--no-eff-email"] if order.email else ["--register-unsafely-without-email"]
    paths = {
        "csr": "request.pem",
        "cert-path": "cert.pem",
        "chain-path": "chain.pem",
        "fullchain-path": "fullchain.pem",
    }
    words = ["certbot", "certonly", "--standalone", "--non-interactive", "--agree-tos", "--server", order.url, *contact]
    words += ["--preferred-challenges", "http", "--http-01-port", str(order.http_port)]
    for option, name in paths.items():
        words += [f"--{option}", f"{place}/{name}"]
    for option in ("config", "work", "logs"):
        words += [f"--{option}-dir", f"{folder}/{option}"]
    return words


def _environment(order: Order) -> Mapping[str, str]:
    return {} if order.ca_file is None else {"REQUESTS_CA_BUNDLE": order.ca_file}


def _run(folder: str, place: str, order: Order) -> ResourceError | None:
    """Run certbot; gives what went wrong, if anything did."""
    try:
        result = run(_command(folder, place, order), env=_environment(order), timeout=_TIMEOUT, accept=None)
    except CommandFailed as error:
        return ResourceError(f"no certificate from {order.url}", detail=error.summary, hint="is the network up?")
    return None if result.ended_well else _explained(f"{result.stdout}\n{result.stderr}", order)


def _explained(text: str, order: Order) -> ResourceError:
    """What certbot said, without its noise, and what to do about it."""
    lines = [line.strip() for line in text.splitlines()]
    details = [line.removeprefix("Detail:").strip() for line in lines if line.startswith("Detail:")]
    said = details or [line for line in lines if not _NOISE.match(line)] or ["certbot gave no reason"]
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, text)), "")
    return ResourceError(
        f"no certificate from {order.url}",
        detail="\n".join(dict.fromkeys(said[-_SHOWN_LINES:])),
        hint=hint.format(port=order.http_port, url=order.url),
    )
