"""The sealer as a filter: one message from stdin, for one recipient, to stdout."""

from __future__ import annotations

import asyncio
from typing import BinaryIO

from agent.mail.seal.keys import Keys
from agent.mail.seal.stream import Sealing, Stream

_CHUNK = 256 * 1024


def seal(address: str, keys: Keys, source: BinaryIO, target: BinaryIO) -> None:
    """Seal a message. Nothing is written before all is sealed. Raises ResourceError where it is not."""
    keys.refresh()
    asyncio.run(_seal(keys.home, keys.fingerprint(address), source, target))


async def _seal(home: str, fingerprint: str, source: BinaryIO, target: BinaryIO) -> None:
    sealing = Sealing(home, fingerprint, None, None)
    stream = Stream([sealing], None)
    try:
        sealing.start()
        while data := await asyncio.to_thread(source.read, _CHUNK):
            await stream.feed(data)
        await stream.end()
        if stream.already is None:
            await sealing.finish()
        for piece in stream.sealed(sealing):
            target.write(piece)
        target.flush()
    finally:
        stream.close()
        await sealing.close()
