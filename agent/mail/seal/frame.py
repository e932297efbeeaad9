"""What a message is sealed in: the header outside, and what stands around the original inside (design 021).

Inside is a multipart/mixed of one part. Its header holds the protected copies of the header fields; its one part
is the original message, byte for byte, header and all.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from agent.mail.seal.already import is_sealed
from agent.mail.seal.fields import Field, Head, end_of_header, parsed

HEAD_LIMIT = 256 * 1024
"""So much of a message is looked at to find the end of its header."""
_PEEK = 16 * 1024  # of the body, to see whether it is sealed already
_KEPT = frozenset(
    b"return-path received from sender reply-to to cc date message-id in-reply-to references delivered-to "
    b"x-original-to authentication-results received-spf precedence auto-submitted mailing-list "
    b"resent-from resent-to resent-cc resent-date resent-sender resent-message-id "
    # Not X-Spam-Report and the like: those quote from the message.
    b"x-spam-flag x-spam-score x-spam-level x-spam-status x-spam-checker-version x-virus-scanned".split()
)
_STRUCTURE = re.compile(rb"mime-version\Z|content-")
_TRACE = re.compile(
    rb"(?:return-path|received|delivered-to|x-original-to|dkim-signature|authentication-results|received-spf|"
    rb"x-virus-scanned|sealed-original)\Z|arc-|x-spam-|x-google-|hp-outer"
)
_LIST = re.compile(rb"list-(?:id|help|subscribe|unsubscribe|unsubscribe-post|post|owner|archive)\Z|archived-at\Z")


@dataclass(frozen=True, slots=True)
class Frame:
    """The bytes around a message: `outer` + ciphertext of (`opening` + original + `closing`) + `ending`."""

    outer: bytes
    opening: bytes
    closing: bytes
    ending: bytes
    newline: bytes


def enough(window: bytes | bytearray) -> bool:
    """Whether so much of a message is known that it can be decided how to seal it."""
    if len(window) >= HEAD_LIMIT:
        return True
    body = end_of_header(window)
    return body >= 0 and len(window) >= body + _PEEK


def frame(window: bytes, *, complete: bool, newline: bytes | None = None) -> Frame | None:
    """The frame for the message that begins with `window` (all of it if `complete`); None where it is sealed already.

    `newline` ends the lines of the frame; by default those of the message do.
    """
    head = parsed(window, complete=complete)
    if is_sealed(head, window[head.body :]):
        return None
    newline = newline or (b"\n" if re.match(rb"[^\n]*(?<!\r)\n", window) else b"\r\n")
    token = os.urandom(16).hex().encode()
    outer = _outer_fields(head.fields, newline)
    closing = newline + b"--sealed-" + token + b"--" + newline
    opening = _opening(head, outer, newline, token, len(closing)) + _before(window, head, newline)
    start = b"Sealed-Original: %010d %d" % (0, len(closing))
    opening = opening.replace(start, b"Sealed-Original: %010d %d" % (len(opening), len(closing)), 1)
    edge = newline + b"--cipher-" + token
    return Frame(_outer(outer, newline, edge), opening, closing, edge + b"--" + newline, newline)


def is_kept(name: bytes) -> bool:
    """Whether a field, by its name in lower case, stays readable outside."""
    return name in _KEPT or bool(_LIST.match(name))


def _outer_fields(fields: list[Field], newline: bytes) -> list[Field]:
    """What stays readable; the subject is one more, and says nothing."""
    outer = [Field(field.name, field.clean(newline)) for field in fields if is_kept(field.name)]
    if any(field.name == b"subject" for field in fields):
        outer.append(Field(b"subject", b"Subject: ..." + newline))
    return outer


def _outer(fields: list[Field], newline: bytes, edge: bytes) -> bytes:
    boundary = edge.strip()[2:]
    lines = [
        b"MIME-Version: 1.0",
        b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted";',
        b' boundary="' + boundary + b'"',
        edge,
        b"Content-Type: application/pgp-encrypted",
        b"Content-Description: PGP/MIME version identification",
        b"",
        b"Version: 1",
        edge,
        b'Content-Type: application/octet-stream; name="encrypted.asc"',
        b"Content-Description: OpenPGP encrypted message",
        b'Content-Disposition: inline; filename="encrypted.asc"',
        b"",
        b"",
    ]
    return b"".join(field.raw for field in fields) + newline.join(lines)


def _opening(head: Head, outer: list[Field], newline: bytes, token: bytes, closing: int) -> bytes:
    """The protected header (RFC 9788, and the older convention that notmuch reads) up to the original's boundary."""
    protected = [
        field.clean(newline) for field in head.fields if not (_STRUCTURE.match(field.name) or _TRACE.match(field.name))
    ]
    shown = [b"HP-Outer: " + field.raw for field in outer if not _TRACE.match(field.name)]
    lines = [
        b"MIME-Version: 1.0",
        b'Content-Type: multipart/mixed; protected-headers="v1"; hp="cipher";',
        b' boundary="sealed-' + token + b'"',
        b"",
        b"--sealed-" + token,
        b"",
    ]
    start = b"Sealed-Original: %010d %d" % (0, closing)
    return start + newline + b"".join(protected) + b"".join(shown) + newline.join(lines)


def _before(window: bytes, head: Head, newline: bytes) -> bytes:
    """What a part needs before the original for its first line not to be taken for what it is not."""
    if window.startswith(b"From "):  # the first line of an mbox
        return b"Content-Type: message/rfc822" + newline + newline
    if not head.fields and head.body == 0:  # no header at all
        return newline
    return b""
