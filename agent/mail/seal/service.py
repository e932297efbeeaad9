"""The sealer as a resident service: its sockets, its beginning and its end."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from agent.errors import ResourceError
from agent.host.systemd.notify import notify
from agent.mail.seal.keys import Keys
from agent.mail.seal.ledger import Ledger
from agent.mail.seal.lmtp import Sealer, Shared
from agent.mail.seal.policy import Policy

_REVIEW = 600.0  # seconds: keys expire without any event
_LONGEST_END = 80.0


@dataclass(frozen=True)
class Settings:
    """Where the service listens, hands on to, and keeps what is its own."""

    lmtp: str
    onward: str
    policy: str = ""
    group: str = ""
    folder: str = "/var/lib/state-agent-seal"
    grace: float = 5 * 86400.0


def serve(keys: Keys, settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises ResourceError where it cannot begin."""
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)  # aiosmtpd's, which shows what it reads
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    if not os.access(settings.folder, os.W_OK | os.X_OK):
        raise ResourceError(f"the folder {settings.folder} cannot be written to", hint="see --folder")
    asyncio.run(_serve(keys, settings))


async def _serve(keys: Keys, settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    slots = asyncio.Semaphore(2 * (os.cpu_count() or 1))
    shared = Shared(keys, settings.onward, settings.folder, slots)
    policy = Policy(keys, Ledger(settings.folder), settings.grace)
    servers = []
    with _names(settings):
        servers.append(await loop.create_unix_server(lambda: Sealer(shared, loop), settings.lmtp))
        _admit(settings.lmtp, settings.group)
        if settings.policy:
            servers.append(await asyncio.start_unix_server(policy.serve, settings.policy))
            _admit(settings.policy, settings.group)
    review = asyncio.create_task(_review(policy))
    notify("READY=1")
    await stop.wait()
    notify("STOPPING=1")
    shared.stopping = True
    for server in servers:
        server.close()
    review.cancel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LONGEST_END):
            while shared.busy:
                await asyncio.sleep(0.02)


async def _review(policy: Policy) -> None:
    while True:
        await asyncio.to_thread(policy.review)
        await asyncio.sleep(_REVIEW)


@contextlib.contextmanager
def _names(settings: Settings) -> Iterator[None]:
    """Make sockets that nobody else may use at first; what is wrong with their places is told."""
    mask = os.umask(0o177)
    try:
        yield
    except OSError as error:
        where = settings.policy if settings.policy and settings.policy in str(error) else settings.lmtp
        hint = "its folder must exist, and belong to the user that the sealer runs as"
        raise ResourceError(f"cannot listen on {where}: {error.strerror or error}", hint=hint) from None
    finally:
        os.umask(mask)


def _admit(path: str, group: str) -> None:
    """Let a group connect to a socket: the one of Postfix's programs."""
    if not group:
        return
    try:
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
        os.chmod(path, 0o660)
    except KeyError:
        raise ResourceError(f"the group {group} does not exist", hint="see --group") from None
    except PermissionError:
        hint = "add it to the unit as SupplementaryGroups="
        raise ResourceError(f"the sealer is not in the group {group}", hint=hint) from None
