"""Whether a message is encrypted already, from its header and the beginning of its body."""

from __future__ import annotations

import re

from agent.mail.seal.fields import Head, media_type, parameters, parsed

_PGP = b"-----BEGIN PGP MESSAGE-----"
_ENVELOPED = (b"enveloped-data", b"authenveloped-data")


def is_sealed(head: Head, body: bytes) -> bool:
    """Whether it is encrypted: PGP/MIME, S/MIME enveloped, inline OpenPGP, or PGP/MIME as Exchange breaks it.

    What is only signed is not. Where that cannot be told for certain, the answer is no: sealing twice harms nobody.
    """
    if [field.name for field in head.fields].count(b"content-type") > 1:
        return False
    content = head.first(b"content-type")
    kind = media_type(content)
    if kind == b"multipart/encrypted":
        return True
    if kind in (b"application/pkcs7-mime", b"application/x-pkcs7-mime"):
        return parameters(content).get(b"smime-type", b"").lower() in _ENVELOPED
    if kind == b"multipart/mixed":
        return _is_broken_by_exchange(parameters(content).get(b"boundary", b""), body)
    return kind in (b"", b"text/plain") and body.lstrip().startswith(_PGP)


def _is_broken_by_exchange(boundary: bytes, body: bytes) -> bool:
    """Whether the parts are: perhaps an empty text, application/pgp-encrypted, application/octet-stream."""
    if not boundary:
        return False
    parts = re.split(rb"(?:\A|\n)--" + re.escape(boundary) + rb"[ \t]*\r?\n", body)[1:4]
    kinds: list[bytes] = []
    for part in parts:
        head = parsed(part, complete=True)
        kind = media_type(head.first(b"content-type"))
        if kind == b"text/plain" and not kinds and not part[head.body :].strip():
            continue
        kinds.append(kind)
    return kinds[:2] == [b"application/pgp-encrypted", b"application/octet-stream"]
