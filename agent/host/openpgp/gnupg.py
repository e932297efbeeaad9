"""GnuPG homes: read in one go, and changed by gpg, which runs as the home's owner.

No daemon of GnuPG is started for what can be done without, and none is left running.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType

from agent.errors import Missing, ResourceError
from agent.host.openpgp.blocks import Block
from agent.host.openpgp.home import READ, entries, is_plain, opened
from agent.host.openpgp.keys import TRUST, Key, parsed
from agent.host.paths import closing, open_parent
from agent.host.run import Result, failure, observe, run

_QUIET = ("--batch", "--no-tty", "--quiet", "--no-options", "--no-permission-warning", "--no-auto-check-trustdb")
RINGS = ("pubring.kbx", "pubring.gpg", "public-keys.d/pubring.db")
"""Where a home keeps its public keys."""
LOCKS = (".#lk*", "*.lock")
"""What gpg makes in a home for a moment, even where it only reads."""
_PRIVATE = "private-keys-v1.d"
_TRUSTDB = "trustdb.gpg"
_SHOWN_KEPT = 32
_shown: OrderedDict[bytes, dict[str, Key]] = OrderedDict()


class Gnupg:
    """The GnuPG homes of this host, each read once."""

    def __init__(self) -> None:
        self._homes: dict[str, dict[str, Key]] = {}

    def keys(self, home: str) -> dict[str, Key]:
        """All keys of a home, by fingerprint."""
        if home not in self._homes:
            self._homes[home] = _listing(home)
        return self._homes[home]


def _listing(home: str) -> dict[str, Key]:
    if not any(os.path.exists(os.path.join(home, ring)) for ring in RINGS):
        return {}  # gpg would make one
    with opened(home) as folder:
        uid = os.fstat(folder).st_uid
        if os.geteuid() != 0 or all(status.st_uid == uid for _, _, status in entries(folder)):
            return _keys(home, _name(uid))
        # What is not the owner's, only root can read. But gpg is never root in a home that somebody else writes to: its
        # common.conf says what it starts (`keyboxd-program`).
        held = {name: _content(folder, name) for name in (*RINGS[:2], _TRUSTDB)}
    with _of_nobody(held) as (copy, nobody):
        return _keys(copy, nobody)


def _keys(home: str, user: str | None) -> dict[str, Key]:
    # Without a trustdb gpg would make that, too; then nothing is trusted.
    trust = [] if os.path.exists(os.path.join(home, _TRUSTDB)) else ["--trust-model", "always"]
    words = [*trust, "--lock-never", "--with-colons", "--with-keygrip", "--list-keys"]
    result = _gpg(home, words, user=user)
    if not result.ended_well:
        raise failure(f"gpg --homedir {home} --list-keys", result)
    return parsed(result.stdout)


def _content(folder: int, name: str) -> bytes | None:
    """The content of a file in an open home, None where there is none; of a link or the like nothing is read."""
    with contextlib.suppress(FileNotFoundError), open(os.open(name, READ, dir_fd=folder), "rb") as file:
        if is_plain(os.fstat(file.fileno())):
            return file.read()
    return None


def listed(home: str) -> dict[str, Key]:
    """All public keys of a home, by fingerprint, as whoever runs this may read them; nothing is written or started.

    For a resident process with little memory: without `sh`, and without a look at trust. Root reads as its owner.
    """
    if os.geteuid() == 0:
        return _listing(home)
    if not any(os.path.exists(os.path.join(home, ring)) for ring in RINGS):
        return {}
    words = ["--no-autostart", "--lock-never", "--trust-model", "always", "--with-colons", "--list-keys"]
    result = observe(["gpg", "--homedir", home, *_QUIET, *words])
    if not result.ended_well:
        raise failure(f"gpg --homedir {home} --list-keys", result)
    return parsed(result.stdout)


def _gpg(
    home: str,
    words: Sequence[str],
    *,
    user: str | None = None,
    stdin: bytes = b"",
    agent: bool = False,
) -> Result:
    keyboxd = os.path.exists(os.path.join(home, RINGS[2]))
    alone = [] if agent or keyboxd else ["--no-autostart"]
    command = ["gpg", "--homedir", home, *_QUIET, *alone, *words]
    user = user if os.geteuid() == 0 else None
    try:
        return run(command, stdin=stdin, accept=None, user=user, cwd="/")
    finally:
        if agent or keyboxd:
            end_daemons(home, user)


def end_daemons(home: str, user: str | None) -> None:
    """End the daemons of GnuPG that run for this home."""
    run(["gpgconf", "--homedir", home, "--kill", "all"], accept=None, user=user if os.geteuid() == 0 else None)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        raise Missing(f"there is no user with the number {uid}", hint="declare the owner of the keyring") from None


# Keys that are not in a keyring


def show(blocks: Sequence[Block]) -> dict[str, Key]:
    """What gpg makes of these public keys, by fingerprint, in one process; what it cannot read is left out.

    Remembered by content: reading the same keys again costs nothing.
    """
    data = b"".join(block.data for block in blocks)
    digest = blake2b(data).digest()
    if digest not in _shown:
        found = _show(data) if data else {}
        if len(blocks) > 1 and len(found) < len({block.fingerprint for block in blocks}):
            for block in blocks:  # one that is damaged may have kept gpg from the others
                if block.fingerprint not in found:
                    found |= _show(block.data)
        _shown[digest] = found
        while len(_shown) > _SHOWN_KEPT:
            _shown.popitem(last=False)
    return _shown[digest]


def _show(data: bytes) -> dict[str, Key]:
    with _of_nobody() as (home, nobody):
        words = ["--with-colons", "--with-keygrip", "--show-keys"]
        return parsed(_gpg(home, words, user=nobody, stdin=data).stdout)


@contextlib.contextmanager
def _of_nobody(files: Mapping[str, bytes | None] = MappingProxyType({})) -> Iterator[tuple[str, str | None]]:
    """A home with these files for a moment, and whose it is: it need not be root who takes keys of others apart."""
    with tempfile.TemporaryDirectory(prefix="state-agent-") as home:
        paths = {os.path.join(home, name): content for name, content in files.items() if content is not None}
        for path, content in paths.items():
            Path(path).write_bytes(content)
        nobody = None
        with contextlib.suppress(KeyError):
            if os.geteuid() == 0:
                for path in (*paths, home):  # the home last: from then on others can rename what is in it
                    os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
                nobody = "nobody"
        yield home, nobody


# Changes


def import_keys(home: str, owner: str, data: bytes, *, private: bool = False) -> None:
    """Merge these keys into the home. Raises ResourceError with gpg's reason for what it did not take."""
    import gnupg

    result = _gpg(home, ["--status-fd", "1", "--import"], user=owner, stdin=data, agent=private)
    seen = gnupg.ImportResult(None)
    for line in result.stdout.splitlines():
        word, _, rest = line.removeprefix("[GNUPG:] ").partition(" ")
        if line.startswith("[GNUPG:] ") and word.startswith("IMPORT"):
            seen.handle_status(word, rest)
    refusals = [f"{each['fingerprint']}: {each['text']}" for each in seen.results if each.get("problem")]
    if refusals or not seen.count:
        said = "\n".join([*refusals, *result.stderr.strip().splitlines()[-8:]])
        raise ResourceError("gpg did not take every key", detail=said)


def set_trust(home: str, owner: str, levels: dict[str, str]) -> None:
    """Set the owner trust of keys, by fingerprint. Whether gpg did it is only known by reading again."""
    lines = "".join(f"{fingerprint}:{TRUST[level]}:\n" for fingerprint, level in levels.items())
    result = _gpg(home, ["--import-ownertrust"], user=owner, stdin=lines.encode())
    if not result.ended_well:
        raise failure("gpg --import-ownertrust", result)


def delete_keys(home: str, owner: str, fingerprints: Iterable[str]) -> None:
    """Remove public keys; gpg refuses where there is a private one to it."""
    named = sorted(fingerprints)
    for start in range(0, len(named), 500):
        result = _gpg(home, ["--yes", "--delete-keys", "--", *named[start : start + 500]], user=owner)
        if not result.ended_well:
            raise failure(f"gpg --homedir {home} --delete-keys", result)


def keygrips(home: str) -> set[str]:
    """The keygrips of all private keys of the home."""
    with contextlib.suppress(FileNotFoundError):
        names = os.listdir(os.path.join(home, _PRIVATE))
        return {name.removesuffix(".key") for name in names if name.endswith(".key")}
    return set()


def remove_home(home: str, owner: str, links: Collection[str] = ()) -> None:
    """Remove a home with all it holds, but never one with a private key in it."""
    if keygrips(home):
        hint = f"if nobody needs it any more: gpg --homedir {home} --delete-secret-keys"
        raise ResourceError(f"{home} holds a private key, so it stays", hint=hint)
    end_daemons(home, owner)
    with closing(open_parent(home, links)) as parent:
        shutil.rmtree(os.path.basename(home), dir_fd=parent)
