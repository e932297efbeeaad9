"""`agent seal --open`: the original message out of what gpg decrypted."""

from __future__ import annotations

import re
from typing import BinaryIO

from agent.errors import AgentError

_FIRST_LINE = re.compile(rb"Sealed-Original: (\d{10}) (\d{1,3})\r?\n")
_CHUNK = 65536


def write_original(source: BinaryIO, target: BinaryIO) -> None:
    """Copy the original message from a decrypted one, byte for byte; AgentError where there is none in it."""
    line = source.readline(64)
    found = _FIRST_LINE.fullmatch(line)
    if found is None:
        hint = "give it what `gpg --decrypt` makes of the encrypted part"
        raise AgentError("this is no message that was sealed here: its first line is not Sealed-Original", hint=hint)
    skip, closing = int(found[1]) - len(line), int(found[2])
    while skip > 0:
        chunk = source.read(min(skip, _CHUNK))
        if not chunk:
            raise AgentError("the decrypted message is cut off")
        skip -= len(chunk)
    held = b""
    while chunk := source.read(_CHUNK):
        held += chunk
        target.write(held[:-closing])
        held = held[-closing:]
    if not re.fullmatch(rb"\r?\n--sealed-[0-9a-f]{32}--\r?\n", held):
        raise AgentError("the decrypted message is cut off: what was written is not all of it")
