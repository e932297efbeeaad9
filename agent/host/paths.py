"""Paths: walked without following foreign symbolic links, and what the system's errors about them mean."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from agent.errors import NotPermitted, ResourceError

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def temporary_name(path: str) -> str:
    """The one name of the temporary beside `path`, so that the next run finds what a killed one left."""
    return f".state-agent-{hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()}"


def temporary_beside(path: str) -> str:
    """The temporary of `path` as an absolute path."""
    return os.path.join(os.path.dirname(path), temporary_name(path))


def refused(path: str, error: OSError) -> ResourceError:
    """What an error of the system means for the resource that stands at `path`."""
    if error.errno in (errno.EACCES, errno.EPERM):
        if os.geteuid() != 0:
            return NotPermitted(f"{path} cannot be read or changed without root", hint="run it with sudo")
        hint = "is it immutable (lsattr), or on a foreign mount?"
        return ResourceError(f"{path}: {os.strerror(error.errno)}", hint=hint)
    if error.errno == errno.EBUSY:
        return ResourceError(f"{path} is busy", hint="is it a mount point of its own (findmnt), as in containers?")
    if error.errno == errno.ENOTDIR:
        return ResourceError(f"a parent of {path} is not a directory")
    return ResourceError(f"{path}: {os.strerror(error.errno or 0)}")


def first_link(folder: str, links: Collection[str]) -> str | None:
    """The first symbolic link that `folder` leads through, apart from the declared `links`."""
    if os.path.realpath(folder) == folder:
        return None
    path = ""
    for part in folder.split("/")[1:]:
        path += "/" + part
        if os.path.islink(path) and path not in links:
            return path
    return None


def open_parent(path: str, links: Collection[str]) -> int:
    """Open the folder that `path` stands in, following no symbolic links but the declared `links`; raises OSError."""
    fd = os.open("/", DIRECTORY)
    walked = ""
    for part in path.split("/")[1:-1]:
        walked += "/" + part
        follow = 0 if walked in links else os.O_NOFOLLOW
        try:
            deeper = os.open(part, DIRECTORY | follow, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


@contextmanager
def closing(fd: int) -> Iterator[int]:
    """The descriptor, closed afterwards."""
    try:
        yield fd
    finally:
        os.close(fd)
