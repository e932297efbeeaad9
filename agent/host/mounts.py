"""Mounts: what is mounted where, whether it answers, who holds it, and the bare folder beneath it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from agent.errors import CommandFailed, ResourceError
from agent.host.paths import DIRECTORY, refused
from agent.host.run import environment, find_program, run

ANSWER_LIMIT = 10.0
"""Seconds in which a file system has to answer; one on a slow card that is busy may well need some."""

_OCTAL = re.compile(rb"\\([0-7]{3})")
# ENOTCONN, and ECONNABORTED for who asked while the daemon died.
_NOT_SERVED = ("Transport endpoint is not connected", "Software caused connection abort")
_HOLDERS_SHOWN = 8
_OPEN_TREE = 428  # the same number on every architecture (open_tree(2))
_OPEN_TREE_CLONE = 1
_AT_FDCWD = -100


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo: its `options` are those of the mount and those of the file system."""

    path: str
    type: str
    source: str
    options: frozenset[str]


class Mounts:
    """All mounts that this process sees, read once (proc_pid_mountinfo(5))."""

    @cached_property
    def all(self) -> list[Mount]:
        """The mounts in the order in which they were made."""
        return self.parsed(Path("/proc/self/mountinfo").read_bytes().splitlines())

    @staticmethod
    def parsed(lines: Sequence[bytes]) -> list[Mount]:
        """The mounts that these lines of mountinfo tell of."""
        return [_mount(line) for line in lines]

    def at(self, path: str) -> Mount | None:
        """What is mounted at exactly this path, and is seen there: the last one of several."""
        return next((mount for mount in reversed(self.all) if mount.path == path), None)

    def below(self, path: str) -> list[str]:
        """Mount points below this path."""
        return [mount.path for mount in self.all if mount.path.startswith(path + "/")]

    def unmount(self, path: str, *, lazily: bool = False) -> None:
        """Unmount what is seen at this path.

        Raises ResourceError where it is in use, with who uses it; `lazily` unmounts even then (umount(8)), and is
        for what nobody can use any more.
        """
        try:
            run(["umount", *["--lazy"] * lazily, "--", path])
        except CommandFailed as error:
            below = self.below(path)
            if "busy" not in error.detail:
                raise
            who = [*(f"the mount {point}" for point in below), *holders(path)]
            raise ResourceError(
                f"{path} cannot be unmounted: it is in use",
                detail="it is held by " + ", ".join(who) if who else "",
                hint="end what uses it, or let it leave; it is never unmounted by force",
            ) from None
        finally:
            self.__dict__.pop("all", None)


def _mount(line: bytes) -> Mount:
    words = line.split(b" ")
    dash = words.index(b"-", 6)
    options = {*words[5].split(b","), *words[dash + 3].split(b",")}
    return Mount(
        _plain(words[4]), _plain(words[dash + 1]), _plain(words[dash + 2]), frozenset(map(os.fsdecode, options))
    )


def _plain(word: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda octal: bytes([int(octal[1], 8)]), word))


def real(path: str) -> str:
    """The path as mountinfo has it. The last part is not looked at: to ask a mount that hangs would hang."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def answers(path: str) -> bool:
    """Whether the file system mounted there is served; False where its daemon is gone (ENOTCONN).

    A process of its own asks: who waits for a FUSE daemon that hangs cannot even be killed.
    Raises ResourceError where no answer comes in time.
    """
    process = subprocess.Popen(
        [find_program("stat"), "--file-system", "--format=%T", "--", path],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(),
        start_new_session=True, text=True,
    )  # fmt: skip
    try:
        _, said = process.communicate(timeout=ANSWER_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()  # and not waited for
        raise ResourceError(
            f"{path} is mounted, but did not answer within {ANSWER_LIMIT:g} s",
            hint="its daemon, or the disk beneath it, hangs; once that daemon has ended, it can be mounted again",
        ) from None
    if process.returncode == 0:
        return True
    if any(reason in said for reason in _NOT_SERVED):
        return False
    raise ResourceError(f"{path} is mounted, but gives no answer", detail=said.strip())


def holders(path: str) -> list[str]:
    """Processes with an open file, a working directory or a program below this path, as `name (pid)`.

    Only the names of links are read, so that no file system is asked anything.
    """
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            links = [folder / name for name in ("cwd", "root", "exe")]
            links += [folder / "fd" / name for name in os.listdir(folder / "fd")]
            if any(_leads_below(link, path) for link in links):
                found.append(f"{(folder / 'comm').read_text().strip()} ({folder.name})")
    more = [f"{len(found) - _HOLDERS_SHOWN} more"] * (len(found) > _HOLDERS_SHOWN)
    return found[:_HOLDERS_SHOWN] + more


def _leads_below(link: Path, path: str) -> bool:
    with contextlib.suppress(OSError):
        return (os.readlink(link) + "/").startswith(path + "/")
    return False


@contextlib.contextmanager
def bare(path: str) -> Iterator[int | None]:
    """The open folder at `path` without anything that is mounted on it; None where there is none.

    A private copy of the mount that its parent lies on, without the mounts on it, shows what they hide (open_tree(2)).
    """
    folder, name = os.path.split(path)
    if not os.path.isdir(folder):
        yield None
        return
    tree = _open_tree(os.fsencode(folder))
    try:
        fd = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=tree)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise ResourceError(f"{path} is not a folder", hint="move it away; nothing can be mounted there") from None
        raise refused(path, error) from None
    finally:
        os.close(tree)
    try:
        yield fd
    finally:
        os.close(fd)


def held_beneath(path: str) -> list[str]:
    """What the bare folder at `path` holds, be it mounted over or not."""
    with bare(path) as fd:
        return [] if fd is None else os.listdir(fd)


def _open_tree(folder: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.syscall(_OPEN_TREE, _AT_FDCWD, folder, _OPEN_TREE_CLONE | os.O_CLOEXEC)
    if fd < 0:
        raise refused(os.fsdecode(folder), OSError(ctypes.get_errno(), "open_tree"))
    return fd
