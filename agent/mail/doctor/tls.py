"""The certificate: the one that is served is the one on the disk, for this name, and for some time yet."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.mail.doctor.finding import Finding, failed, passed, skipped, warned
from agent.mail.doctor.site import CERTIFICATE, MailHost
from agent.mail.doctor.talk import connected, trusting

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_SOON = 14  # days; one of Let's Encrypt is renewed 30 days before its end
_UNITS = {25: "postfix", 465: "postfix", 587: "postfix", 993: "dovecot"}


def certificate(mail: MailHost) -> Iterator[Finding]:
    """What the file says, and whether it is served on every port."""
    if not mail.has("certificate"):
        yield skipped("certificate", "the site has no state certificate")
        return
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    chain = x509.load_pem_x509_certificates(Path(CERTIFICATE).read_bytes())
    yield _file(mail, chain[0])
    wanted = [each.public_bytes(Encoding.DER) for each in chain]
    for port, unit in _UNITS.items():
        if port not in mail.mute and (port == 25 or mail.has("dovecot")):
            mail.say(f"the certificate on port {port}")
            yield _served(mail, port, unit, wanted)


def _file(mail: MailHost, leaf: Certificate) -> Finding:
    from cryptography import x509

    left = (leaf.not_valid_after_utc - datetime.datetime.now(datetime.UTC)).days
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        domains = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    except x509.ExtensionNotFound:
        domains = []
    acme = mail.get("certificate", "provider") == "letsencrypt"
    renew = "agent apply renews it; port 80 must reach this host" if acme else "agent apply makes a new one"
    if left < 0:
        return failed("certificate", f"it expired {-left} days ago", renew)
    if mail.hostname not in domains:
        hint = "certificate.domains must hold the name that mail programs connect to: agent apply"
        return failed("certificate", f"it is for {', '.join(domains) or 'nobody'}, not for {mail.hostname}", hint)
    if left < _SOON:
        return warned("certificate", f"it expires in {left} days", renew)
    seen = f"for {mail.hostname}, {left} days left"
    if leaf.issuer != leaf.subject:
        return passed("certificate", seen)
    hint = (
        "Let's Encrypt has not answered yet: is port 80 open and forwarded, and the name in DNS? then: agent apply"
        if acme
        else 'mail programs must be told to trust it; certificate.provider = "letsencrypt" gets one that they know'
    )
    return warned("certificate", f"self-signed, {seen}", hint)


def _served(mail: MailHost, port: int, unit: str, wanted: list[bytes]) -> Finding:
    name = f"certificate:{port}"
    try:
        stream = _chain(mail.address, port)
    except OSError as error:
        return failed(
            name, f"no TLS there: {error.strerror or error}", f"systemctl status {unit}; journalctl -u {unit}"
        )
    version, served = stream
    if served == wanted[: len(served)] and served:
        return passed(name, f"{version}; it is the one in {CERTIFICATE}")
    return failed(name, f"it is another one than that in {CERTIFICATE}", f"systemctl reload {unit}")


def _chain(address: str, port: int) -> tuple[str, list[bytes]]:
    """The version of TLS, and the certificates served: all where Python can tell (3.13), else the first."""
    if port == 993:
        import imaplib

        imap = imaplib.IMAP4_SSL(address, port, ssl_context=trusting(), timeout=30)
        try:
            return _of(imap.socket())
        finally:
            imap.logout()
    with connected(address, port) as server:
        if port != 465:
            server.ehlo()
            server.starttls(context=trusting())
        return _of(server.sock)


def _of(stream: Any) -> tuple[str, list[bytes]]:
    if not isinstance(stream, ssl.SSLSocket):
        raise OSError("the connection is not encrypted")
    every = getattr(stream, "get_unverified_chain", None)
    found = list(every()) if every is not None else [stream.getpeercert(binary_form=True) or b""]
    return stream.version() or "", found
