"""Network services, as far as a check looks at them: does it answer, and what does it say first."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import ResourceError
from agent.fields import absolute_path

if TYPE_CHECKING:
    import socket

PORTS = {"tcp": None, "tls": None, "smtp": 25, "smtps": 465, "imap": 143, "imaps": 993}
_UNIX = "unix://"
_TLS = frozenset({"tls", "smtps", "imaps"})
_PAUSE = 0.2
_MOST = 1 << 16


@dataclass(frozen=True, slots=True)
class Service:
    """Where a service is (`host` is a path where the scheme is `unix`) and how it is spoken to."""

    scheme: str
    host: str
    port: int

    @property
    def encrypted(self) -> bool:
        """Whether TLS begins at once."""
        return self.scheme in _TLS

    @property
    def protocol(self) -> str:
        """`smtp`, `imap`, or nothing where any banner will do."""
        return self.scheme[:4] if self.scheme[:4] in ("smtp", "imap") else ""


def service(url: str) -> Service:
    """The service that a URL such as `imaps://mail.example.net`, `tcp://[::1]:5432` or `unix:///run/x` names.

    Raises ValueError.
    """
    from urllib.parse import urlsplit

    if url.startswith(_UNIX):
        return Service("unix", absolute_path(url.removeprefix(_UNIX)), 0)
    wrong = (
        f'"{url}" is not a service: write {", ".join(PORTS)} and "://host:port", such as "smtp://localhost:25", '
        f'or "{_UNIX}/path"'
    )
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme)
    except ValueError:
        raise ValueError(wrong) from None
    if parts.scheme not in PORTS or not parts.hostname or parts.username or parts.path.strip("/") or parts.query:
        raise ValueError(wrong)
    if port is None:
        raise ValueError(f'"{url}" needs a port: {parts.scheme}://{parts.netloc}:PORT')
    return Service(parts.scheme, parts.hostname, port)


def probe(url: str, *, banner: str | None, timeout: float, verify: bool, send: str = "") -> str:
    """Connect, begin TLS where the scheme says so, and give what the service says.

    `send` is said to it first, where the scheme names no protocol. A refused connection is tried again until the
    time is over: a service that was just started needs a moment. `banner` is a regular expression to be found in
    what it says (for SMTP, also in its answer to EHLO).
    Raises ResourceError with what was expected and what came.
    """
    at = service(url)
    deadline = time.monotonic() + timeout
    try:
        with _connected(at, url, deadline, timeout) as plain:
            if not at.encrypted:
                return _listen(_Talk(plain, deadline), at, url, banner, send)
            stream, spoken = _encrypted(plain, at, url, verify)
            with stream:
                said = _listen(_Talk(stream, deadline), at, url, banner, send)
                return f"{said} ({spoken})" if said != "connected" else spoken
    except TimeoutError:
        raise ResourceError(f"{url} did not answer within {timeout:g} s") from None
    except OSError as error:
        raise ResourceError(f"{url}: {error.strerror or error}") from None


def _connected(at: Service, url: str, deadline: float, timeout: float) -> socket.socket:
    import socket

    while True:
        try:
            return _opened(at, max(deadline - time.monotonic(), 0.01))
        except (ConnectionRefusedError, FileNotFoundError):
            if time.monotonic() + _PAUSE >= deadline:
                raise ResourceError(f"{url}: nothing listens there (refused for {timeout:g} s)") from None
            time.sleep(_PAUSE)
        except (socket.gaierror, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "it is not a host name"
            raise ResourceError(f"{url}: {at.host} cannot be resolved: {why}") from None


def _opened(at: Service, timeout: float) -> socket.socket:
    import socket

    if at.scheme != "unix":
        return socket.create_connection((at.host, at.port), timeout=timeout)
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(timeout)
    try:
        stream.connect(at.host)
    except OSError:
        stream.close()
        raise
    return stream


def _encrypted(plain: socket.socket, at: Service, url: str, verify: bool) -> tuple[socket.socket, str]:
    import ssl

    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        stream = context.wrap_socket(plain, server_hostname=at.host)
    except ssl.SSLCertVerificationError as error:
        raise ResourceError(f"{url}: its certificate is not valid: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise ResourceError(f"{url}: no TLS there: {error.reason or error}") from None
    cipher = stream.cipher()
    return stream, f"{stream.version()} {cipher[0] if cipher else ''}".strip()


class _Talk:
    """Lines from a socket, all within one time limit."""

    def __init__(self, stream: socket.socket, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline
        self._rest = b""
        self.heard = ""

    def more(self) -> bool:
        """Wait for more to be said; False at the end, raises TimeoutError when the time is over."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._stream.settimeout(left)
        data = self._stream.recv(4096)
        self._rest += data
        return bool(data) and len(self._rest) < _MOST

    def line(self) -> str:
        """The next line, without its ending; what there is of it when the connection ends."""
        while b"\n" not in self._rest and self.more():
            pass
        line, _, self._rest = self._rest.partition(b"\n")
        text = line.decode("utf-8", "replace").rstrip("\r")
        self.heard += text + "\n"
        return text

    def reply(self) -> str:
        """The lines of one SMTP reply (RFC 5321, section 4.2.1)."""
        lines = [self.line()]
        while re.match(r"\d{3}-", lines[-1]):
            lines.append(self.line())
        return "\n".join(lines)

    def say(self, text: str, end: str = "\r\n") -> None:
        """Send one line."""
        self._stream.sendall((text + end).encode())

    def until(self, pattern: str) -> bool:
        """Listen until this is found, all is said or the time is over."""
        try:
            while not re.search(pattern, self.text) and self.more():
                pass
        except TimeoutError:
            pass
        return re.search(pattern, self.text) is not None

    @property
    def text(self) -> str:
        """All that was said so far."""
        return self.heard + self._rest.decode("utf-8", "replace")


def _listen(talk: _Talk, at: Service, url: str, banner: str | None, send: str) -> str:
    if at.protocol == "smtp":
        return _smtp(talk, url, banner)
    if at.protocol == "imap":
        return _imap(talk, url, banner)
    talk.say(send, end="")
    if banner is None:
        return "connected"
    if not talk.until(banner):
        raise _unexpected(url, banner, talk.text)
    return talk.text.strip().partition("\n")[0].rstrip()


def _smtp(talk: _Talk, url: str, banner: str | None) -> str:
    greeting = talk.reply()
    if not greeting.startswith("220"):
        raise _unexpected(url, "^220", greeting)
    talk.say("EHLO localhost")
    answer = talk.reply()
    if not answer.startswith("250"):
        raise _unexpected(url, "250 in answer to EHLO", answer)
    talk.say("QUIT")
    if banner is not None and not re.search(banner, talk.heard, re.MULTILINE):
        raise _unexpected(url, banner, talk.heard)
    return greeting.partition("\n")[0]


def _imap(talk: _Talk, url: str, banner: str | None) -> str:
    greeting = talk.line()
    if not re.match(r"\* (OK|PREAUTH)\b", greeting, re.IGNORECASE):
        raise _unexpected(url, "* OK", greeting)
    talk.say("a LOGOUT")
    if banner is not None and not re.search(banner, greeting):
        raise _unexpected(url, banner, greeting)
    return greeting


def _unexpected(url: str, expected: str, came: str) -> ResourceError:
    detail = f"expected: {expected}\ncame: {came.strip() or 'nothing'}"
    return ResourceError(f"{url} did not say what was expected", detail=detail)
