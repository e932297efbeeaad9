"""SMTP as the mail test speaks it: as a stranger, with time limits, and without ever trusting a certificate."""

from __future__ import annotations

import contextlib
import re
import smtplib
import ssl
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

HELO = "state-agent-doctor.invalid"
"""A name that passes the checks of HELO, and whose domain says nothing about who may send for it (RFC 2606)."""
PATIENCE = 40.0
"""Seconds for one answer: a server without a resolver takes its time over a stranger's name."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered."""

    code: int
    text: str

    @property
    def greylisted(self) -> bool:
        """Whether the client is to come again."""
        return self.code == 450 and "greylist" in self.text.lower()

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


def answer(code: int, text: bytes) -> Answer:
    """An answer as smtplib gives it, on one line."""
    return Answer(code, re.sub(r"\s+", " ", text.decode(errors="replace")).strip())


def trusting() -> ssl.SSLContext:
    """TLS with whoever answers: what its certificate says is looked at elsewhere."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def outdated() -> ssl.SSLContext:
    """TLS as no server should speak it any more: below 1.2."""
    context = trusting()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


@contextlib.contextmanager
def connected(address: str, port: int, *, timeout: float = PATIENCE) -> Iterator[smtplib.SMTP]:
    """A connection that has been greeted; the last thing said is QUIT. Raises OSError."""
    if port == 465:
        server: smtplib.SMTP = smtplib.SMTP_SSL(address, port, HELO, timeout=timeout, context=trusting())
    else:
        server = smtplib.SMTP(address, port, HELO, timeout=timeout)
    try:
        yield server
    finally:
        with contextlib.suppress(OSError):
            server.quit()
        server.close()


def envelope(server: smtplib.SMTP, sender: str, recipient: str) -> Answer:
    """The answer to a recipient, or to the sender where already that is refused."""
    said = answer(*server.mail(sender))
    return answer(*server.rcpt(recipient)) if said.code == 250 else said


def deliver(address: str, recipient: str, message: bytes) -> Answer:
    """Bring a message with no sender to port 25; what the server said last."""
    with connected(address, 25) as server:
        server.ehlo()
        said = envelope(server, "", recipient)
        if said.code != 250:
            return said
        try:
            return answer(*server.data(message))
        except smtplib.SMTPDataError as error:
            return answer(error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else b"")


def speaks_outdated(address: str, port: int) -> bool:
    """Whether a server accepts TLS below 1.2."""
    try:
        if port == 465:
            smtplib.SMTP_SSL(address, port, HELO, timeout=PATIENCE, context=outdated()).close()
        else:
            with connected(address, port) as server:
                server.starttls(context=outdated())
    except (ssl.SSLError, ConnectionError, smtplib.SMTPServerDisconnected):
        return False
    return True
