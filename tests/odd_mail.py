"""Messages that somebody hostile or confused could send, and what becomes of them on their way to the sealer.

What Postfix 3.10 changes, whatever it is configured for, is this and nothing else:

- a line ends at LF: a bare one becomes CR LF; a CR anywhere else becomes a space (`cleanup_replace_stray_cr_lf`);
- a first line that begins with `From ` becomes an X-Mailbox-Line field, where it comes by DATA;
- Bcc, Content-Length, Resent-Bcc and Return-Path fields are dropped (`message_drop_headers`);
- blanks before a field's colon go, a field is cut after 60,000 bytes, and a line of the header at its first NUL;
- where something else follows the header than an empty line, it gets one, and so does a message that comes by DATA and
  begins with a blank; else what begins so belongs to the field before it, which is one that Postfix wrote.

Amavis makes every other NUL the bytes C0 80, and drops X-Spam fields that others wrote.
"""

from __future__ import annotations

import random
import re

_DROPPED = re.compile(rb"(?i)(Bcc|Content-Length|Resent-Bcc|Return-Path|X-Spam-[a-z]+):")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")


def odd(seed: int) -> bytes:
    """A message of that seed."""
    rng = random.Random(seed)
    ends = rng.choice([[b"\r\n"], [b"\n"], [b"\r\n", b"\n", b"\r"], [b"\r\n", b"\n.\r\n", b"\r\n..\r\n", b"\0\r\n"]])
    names = [b"Subject", b"subject ", b"From", b"To", b"Received", b"Content-Type", b"MIME-Version", b"X\xff"]
    names += [b"", b":"]
    values = [b"text/plain", b"multipart/mixed; boundary=b", b'text/plain; charset="', b"=?utf-8?b?4pyT?=", b"a@b"]
    values += [b"\xe4\xf6", b"x" * 3000, b"\0", b"a\r b", b'multipart/signed; boundary="b', b"folded\r\n\tmore", b"joe"]
    values.append(b"")
    head = [rng.choice(names) + b": " + rng.choice(values) + rng.choice(ends) for _ in range(rng.randrange(12))]
    parts = [b"--b\r\nContent-Type: text/html\r\n\r\n", b"--b--", b".", b"..", b"\0", b"\xff" * 50, b"From x"]
    parts.append(rng.randbytes(200))
    body = [rng.choice(parts) + rng.choice(ends) for _ in range(rng.choice([0, 1, 10, 300]))]
    return b"".join(head) + rng.choice([b"", b"\r\n", b"\n"]) + b"".join(body)


def header_and_body(message: bytes) -> tuple[list[bytes], bytes]:
    """The fields of a message with CR LF, each as it stands there, and its body."""
    head, _, body = (b"\r\n" + message).partition(b"\r\n\r\n")
    return re.split(rb"\r\n(?![ \t])", head)[1:], body


def as_it_comes(message: bytes, *, by_data: bool = True) -> tuple[list[bytes], bytes]:
    """The header fields and the body that arrive, of a message that was sent; which ends with CR LF."""
    lines = [line.removesuffix(b"\r").replace(b"\r", b" ") for line in message.split(b"\n")[:-1]]
    if lines and by_data and re.match(rb">*From ", lines[0]):
        lines[0] = b"X-Mailbox-Line: " + lines[0]
    fields: list[bytes] = []
    headless = by_data and message[:1] in (b" ", b"\t")
    while lines and not headless and (_FIELD.match(lines[0]) or lines[0][:1] in (b" ", b"\t")):
        line = lines.pop(0).partition(b"\0")[0]
        if fields and line[:1] in (b" ", b"\t"):
            fields[-1] += b"\r\n" + line
        else:
            fields.append(_FIELD.sub(rb"\1:", line, count=1)[:60_000])
    if lines and not lines[0] and not headless:
        lines.pop(0)
    kept = [field for field in fields if not _DROPPED.match(field)]
    return kept, b"".join(line.replace(b"\0", b"\xc0\x80") + b"\r\n" for line in lines)
