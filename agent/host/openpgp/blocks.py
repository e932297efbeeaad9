"""OpenPGP keys as files hold them, armored or binary, taken apart into one block of packets per key (RFC 9580)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

_ARMOR = re.compile(
    rb"-----BEGIN PGP (?:PUBLIC|PRIVATE) KEY BLOCK-----[ \t]*\r?\n(.*?)-----END PGP (?:PUBLIC|PRIVATE) KEY BLOCK-----",
    re.DOTALL,
)
_SECRET_KEY, _PUBLIC_KEY, _SECRET_SUBKEY, _MARKER = 5, 6, 7, 10
_PREFIXES = {4: (b"\x99", 2, "sha1"), 5: (b"\x9a", 4, "sha256"), 6: (b"\x9b", 4, "sha256")}


@dataclass(frozen=True, slots=True)
class Block:
    """One key with all its packets. The fingerprint of a private key is not known from its bytes alone: it is empty."""

    fingerprint: str
    private: bool
    data: bytes


def key_blocks(content: bytes) -> list[Block]:
    """The keys in a file. Raises ValueError, with a sentence, where it holds none or is damaged."""
    data = _binary(content)
    blocks: list[Block] = []
    start, fingerprint, private = -1, "", False
    for at, tag, body in _packets(data):
        if tag in (_PUBLIC_KEY, _SECRET_KEY):
            if start >= 0:
                blocks.append(Block(fingerprint, private, data[start:at]))
            start, private = at, tag == _SECRET_KEY
            fingerprint = "" if private else _fingerprint(body)
        elif start < 0 and tag != _MARKER:
            raise ValueError("it begins with something else than a key")
        private = private or tag == _SECRET_SUBKEY
    if start < 0:
        raise ValueError("it holds no key")
    return [*blocks, Block(fingerprint, private, data[start:])]


def _binary(content: bytes) -> bytes:
    if content[:1] and content[0] & 0x80:
        return content
    armored = _ARMOR.findall(content)
    if not armored:
        raise ValueError("it holds no OpenPGP key, neither armored nor binary")
    return b"".join(_dearmored(text) for text in armored)


def _dearmored(text: bytes) -> bytes:
    lines = [line.strip() for line in text.splitlines()]
    if b"" in lines:
        lines = lines[lines.index(b"") + 1 :]  # what stands before the empty line are headers
    encoded = b"".join(line for line in lines if not (line.startswith(b"=") and len(line) == 5))
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError("its armor is damaged") from None


def _packets(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Where each packet begins, its tag, and its body."""
    at = 0
    while at < len(data):
        first = data[at]
        if not first & 0x80:
            raise ValueError("it is damaged: a packet does not begin like one")
        tag, (start, size) = (
            (first & 0x3F, _new_length(data, at + 1)) if first & 0x40 else ((first & 0x3C) >> 2, _old_length(data, at))
        )
        if start + size > len(data):
            raise ValueError("it is cut off")
        yield at, tag, data[start : start + size]
        at = start + size


def _new_length(data: bytes, at: int) -> tuple[int, int]:
    octets = data[at : at + 5]
    if octets and octets[0] < 192:
        return at + 1, octets[0]
    if len(octets) > 1 and octets[0] < 224:
        return at + 2, ((octets[0] - 192) << 8) + octets[1] + 192
    if len(octets) == 5 and octets[0] == 255:
        return at + 5, int.from_bytes(octets[1:], "big")
    raise ValueError("it is damaged: a packet has no length")


def _old_length(data: bytes, at: int) -> tuple[int, int]:
    kind = data[at] & 3
    if kind == 3:
        raise ValueError("it is damaged: a packet has no length")
    start = at + 1 + (1 << kind)
    return start, int.from_bytes(data[at + 1 : start], "big")


def _fingerprint(body: bytes) -> str:
    prefix, width, digest = _PREFIXES.get(body[0] if body else 0, (b"", 0, ""))
    if not digest:
        raise ValueError("it is of a version of OpenPGP that is not known")
    hashed = hashlib.new(digest, prefix + len(body).to_bytes(width, "big") + body, usedforsecurity=False)
    return hashed.hexdigest().upper()
