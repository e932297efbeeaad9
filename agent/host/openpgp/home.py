"""Owners and modes of what stands in a GnuPG home.

The home is its owner's, who may rename things in it at any moment: nothing is reached by a path but the home itself.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Collection, Iterator

from agent.host.paths import DIRECTORY, closing, open_parent, refused

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How what stands in a home is opened."""


def exposed(home: str, uid: int) -> list[str]:
    """Files and folders in a home that are not its owner's, or that others have rights to, relative to the home."""
    with contextlib.suppress(FileNotFoundError), opened(home) as folder:
        return sorted(name for name, _, status in entries(folder) if _is_exposed(status, uid))
    return []


def make_private(home: str, owner: str, links: Collection[str] = ()) -> None:
    """Give the home with all it holds to its owner, and to nobody else; `links` on the way to it are declared."""
    account = pwd.getpwnam(owner)
    with (
        contextlib.suppress(FileNotFoundError),
        closing(open_parent(home, links)) as parent,
        opened(os.path.basename(home), parent) as folder,
    ):
        for name, place, status in entries(folder):
            if _is_exposed(status, account.pw_uid):
                _take(place, os.path.basename(name), account)


def _is_exposed(status: os.stat_result, uid: int) -> bool:
    return status.st_uid != uid or bool(status.st_mode & 0o077)


def is_plain(status: os.stat_result) -> bool:
    """Whether it is a file of one name only."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _take(folder: int, name: str, account: pwd.struct_passwd) -> None:
    try:
        with closing(os.open(name, READ, dir_fd=folder)) as fd:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode) or is_plain(status):
                os.fchown(fd, account.pw_uid, account.pw_gid)
                os.fchmod(fd, stat.S_IMODE(status.st_mode) & 0o700)
    except FileNotFoundError:
        return
    except OSError as error:
        raise refused(name, error) from None


def entries(home: int) -> Iterator[tuple[str, int, os.stat_result]]:
    """What GnuPG keeps in an open home, two folders deep: folders, and files of one name only; no links, no sockets.

    Each with its name relative to the home, and the open folder that it stands in. GnuPG's configuration holds no
    secrets, and may well be somebody else's: whoever declares it as a file.
    """
    for name, status in _held(home):
        yield name, home, status
        if stat.S_ISDIR(status.st_mode):
            with contextlib.suppress(FileNotFoundError), opened(name, home) as folder:
                for below, its in _held(folder):
                    yield f"{name}/{below}", folder, its


def _held(folder: int) -> Iterator[tuple[str, os.stat_result]]:
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode) or (is_plain(status) and not name.endswith(".conf")):
                yield name, status


@contextlib.contextmanager
def opened(name: str, above: int | None = None) -> Iterator[int]:
    """The open folder of that path, or of that name in the folder `above`; a link is none.

    Raises FileNotFoundError where there is none, ResourceError where it is something else, or is refused.
    """
    try:
        fd = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise refused(name, error) from None
    with closing(fd):
        yield fd
