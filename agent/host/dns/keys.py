"""Values of DNS records that say which key a host has: made from the key itself, so that both cannot drift apart."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING

from agent.errors import KnownAfterApply, ResourceError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from agent.host import Host
    from agent.host.files import Files


def dkim_value(host: Host, path: str) -> str:
    """The TXT record for the key in a PEM file, private or public (RFC 6376, RFC 8463), as opendkim-genkey writes it.

    Raises KnownAfterApply while there is no such file, ResourceError where it holds no key for DKIM.
    """
    content = _content(host.files, path, "DKIM key")
    return str(host.derived.of("dkim", content, lambda: _dkim(path, content)))


def _dkim(path: str, content: bytes) -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    key = _public_key(path, content)
    if isinstance(key, RSAPublicKey):
        return f"v=DKIM1; h=sha256; k=rsa; p={base64.b64encode(_encoded(key)).decode()}"
    if isinstance(key, Ed25519PublicKey):
        return f"v=DKIM1; k=ed25519; p={base64.b64encode(key.public_bytes_raw()).decode()}"
    raise ResourceError(f"{path}: a key for DKIM is of RSA or Ed25519")


def tlsa_value(host: Host, path: str) -> str:
    """The TLSA record `3 1 1` (RFC 6698) for the first certificate in a PEM file: it names that one's public key.

    Raises KnownAfterApply while there is no such file, ResourceError where it holds no certificate.
    """
    content = _content(host.files, path, "certificate")
    return str(host.derived.of("tlsa", content, lambda: _tlsa(path, content)))


def _tlsa(path: str, content: bytes) -> str:
    from cryptography import x509

    try:
        key = x509.load_pem_x509_certificates(content)[0].public_key()
    except (ValueError, IndexError):
        raise ResourceError(f"{path} holds no readable certificate") from None
    return f"3 1 1 {hashlib.sha256(_encoded(key)).hexdigest()}"


def _content(files: Files, path: str, what: str) -> bytes:
    # Whoever owns the folder may keep the key behind a link, as certificate:NAME and opendkim's users do.
    state = files.read(os.path.realpath(path))
    if state is None:
        raise KnownAfterApply(f"the {what} {path} is not there yet", hint="name what makes it in `requires`")
    if state["type"] != "file":
        raise ResourceError(f"{path} is no file, but a {state['type']}")
    content: bytes = state["content"]
    return content


def _encoded(key: PublicKeyTypes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _public_key(path: str, content: bytes) -> PublicKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

    try:
        if b"PRIVATE KEY-----" in content:
            # Whether an RSA key is sound takes longer than all else that is read; only what it publishes is asked here.
            return load_pem_private_key(content, password=None, unsafe_skip_rsa_key_validation=True).public_key()
        return load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # the reason could quote the key
        raise ResourceError(
            f"{path} holds no readable key",
            hint="a PEM file without a passphrase, as `opendkim-genkey -b 2048` makes it",
        ) from None
