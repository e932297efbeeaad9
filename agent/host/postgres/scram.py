"""SCRAM-SHA-256 verifiers, made and checked here, so that no server ever sees a password (RFC 5802, RFC 7677)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import stringprep
import unicodedata

ITERATIONS = 4096
_VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
_PROHIBITED = (
    stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4,
    stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8,
    stringprep.in_table_c9,
)  # fmt: skip


def is_verifier(text: str) -> bool:
    """Whether a text is a verifier already, as pg_authid holds it."""
    return _VERIFIER.fullmatch(text) is not None


def make_verifier(password: str) -> str:
    """A new verifier of a password, with a salt of its own."""
    return _verifier(password, secrets.token_bytes(16), ITERATIONS)


def matches(password: str, stored: str | None) -> bool:
    """Whether this is the password behind a stored verifier; an old MD5 one matches nothing."""
    found = _VERIFIER.fullmatch(stored or "")
    if found is None or stored is None:
        return False
    if is_verifier(password):
        return hmac.compare_digest(password, stored)
    return hmac.compare_digest(_verifier(password, base64.b64decode(found[2]), int(found[1])), stored)


def _verifier(password: str, salt: bytes, iterations: int) -> str:
    salted = hashlib.pbkdf2_hmac("sha256", _prepared(password).encode(), salt, iterations)
    client = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt_text, client_text, server_text = (base64.b64encode(part).decode() for part in (salt, client, server))
    return f"SCRAM-SHA-256${iterations}:{salt_text}${client_text}:{server_text}"


def _prepared(password: str) -> str:
    """The password after SASLprep (RFC 4013); where that forbids it, as it is: so do the server and libpq."""
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(letter) else letter
        for letter in password
        if not stringprep.in_table_b1(letter) or stringprep.in_table_c12(letter)
    )
    normal = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not normal or any(stringprep.in_table_a1(letter) for letter in normal):
        return password
    if any(prohibited(letter) for letter in normal for prohibited in _PROHIBITED):
        return password
    rightward = [stringprep.in_table_d1(letter) for letter in normal]
    if any(rightward) and (
        any(stringprep.in_table_d2(letter) for letter in normal) or not (rightward[0] and rightward[-1])
    ):
        return password
    return normal
