"""OpenPGP public keys as text: armored (RFC 9580, section 6), without any program."""

from __future__ import annotations

import base64

_BEGIN = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
_END = "-----END PGP PUBLIC KEY BLOCK-----"
_PRIVATE = b"PRIVATE KEY BLOCK-----"
_WIDTH = 64
# The first octet of a packet: bit 7 is always set, then the format bit and the tag (RFC 9580, section 4.2).
_PUBLIC_KEY, _SECRET_KEY = 6, 5


def problem_of_key(content: bytes) -> str:
    """Why this is not a public key, in words; nothing where it is one."""
    if _PRIVATE in content or _tag(content) == _SECRET_KEY:
        return "this is a private key; give the public one (gpg --armor --export)"
    if _tag(content) == _PUBLIC_KEY:
        return ""
    text = content.decode("utf-8", "replace").strip()
    if not text.startswith(_BEGIN) or not text.endswith(_END):
        return f"an armored key begins with {_BEGIN} and ends with {_END}"
    return ""


def armored(content: bytes) -> str:
    """A public key as armored text, whether it came so or in binary."""
    if _tag(content) != _PUBLIC_KEY:
        return content.decode("utf-8", "replace").strip() + "\n"
    body = base64.b64encode(content).decode()
    lines = [body[start : start + _WIDTH] for start in range(0, len(body), _WIDTH)]
    checksum = base64.b64encode(_crc24(content).to_bytes(3, "big")).decode()
    return "\n".join([_BEGIN, "", *lines, f"={checksum}", _END, ""])


def _tag(content: bytes) -> int | None:
    """The tag of the first packet of binary content; None for text."""
    first = content[0] if content else 0
    if not first & 0x80:
        return None
    return first & 0x3F if first & 0x40 else (first & 0x3C) >> 2


def _crc24(content: bytes) -> int:
    """The checksum that older readers want (RFC 4880, section 6.1)."""
    crc = 0xB704CE
    for octet in content:
        crc ^= octet << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc
