"""Files: read without disturbing them, replaced in one instant, never through a symbolic link by surprise."""

from __future__ import annotations

import contextlib
import errno
import grp
import hashlib
import os
import pwd
import stat
from collections.abc import Callable, Collection, Iterator
from typing import Any

from agent.errors import Missing, NotPermitted, ResourceError

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
_CHUNK = 1 << 20

_users: dict[int, str] = {}
_groups: dict[int, str] = {}


def user_name(uid: int) -> str:
    """The name of a user, or its number where it has none."""
    if uid not in _users:
        try:
            _users[uid] = pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)
    return _users[uid]


def group_name(gid: int) -> str:
    """The name of a group, or its number where it has none."""
    if gid not in _groups:
        try:
            _groups[gid] = grp.getgrgid(gid).gr_name
        except KeyError:
            return str(gid)
    return _groups[gid]


def forget_names() -> None:
    """Drop what is remembered of users and groups, after they were changed."""
    _users.clear()
    _groups.clear()


def user_id(name: str) -> int:
    """The number of a user; raises Missing where there is none of that name."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise Missing(f"the user {name} does not exist", hint="declare it, or require what makes it") from None


def group_id(name: str) -> int:
    """The number of a group; raises Missing where there is none of that name."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise Missing(f"the group {name} does not exist", hint="declare it, or require what makes it") from None


def temporary_name(path: str) -> str:
    """The one name of the temporary beside `path`, so that the next run finds what a killed one left."""
    return f".state-agent-{hashlib.blake2b(path.encode(), digest_size=8).hexdigest()}"


def temporary_beside(path: str) -> str:
    """The temporary of `path` as an absolute path."""
    return os.path.join(os.path.dirname(path), temporary_name(path))  # noqa: PTH118, PTH120


def describe(status: os.stat_result) -> dict[str, Any]:
    """Type, mode, owner and group as attributes of a state."""
    return {
        "type": _TYPES.get(stat.S_IFMT(status.st_mode), "special file"),
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "owner": user_name(status.st_uid),
        "group": group_name(status.st_gid),
    }


def refused(path: str, error: OSError) -> ResourceError:
    """What an error of the system means for the resource that stands at `path`."""
    if error.errno in (errno.EACCES, errno.EPERM):
        if os.geteuid() != 0:
            return NotPermitted(f"{path} cannot be read or changed without root", hint="run it with sudo")
        return ResourceError(f"{path}: {os.strerror(error.errno)}", hint="is it immutable (lsattr), or on a foreign mount?")
    if error.errno == errno.ENOTDIR:
        return ResourceError(f"a parent of {path} is not a directory")
    return ResourceError(f"{path}: {os.strerror(error.errno or 0)}")


class Files:
    """The file system, as far as resources use it."""

    def __init__(self) -> None:
        self._straight: dict[str, str | None] = {}
        self._noatime = os.O_NOATIME if os.geteuid() == 0 else 0

    def forget(self) -> None:
        """Drop what is remembered of folders."""
        self._straight.clear()

    def check_parents(self, path: str, links: Collection[str] = ()) -> None:
        """Refuse a path that leads through a symbolic link which is not among the declared `links`."""
        parent = os.path.dirname(path)  # noqa: PTH120
        if parent not in self._straight:
            self._straight[parent] = _first_link(parent, links)
        link = self._straight[parent]
        if link is not None:
            target = os.path.realpath(link)
            raise ResourceError(
                f"{path} leads through the symbolic link {link}",
                hint=f'declare {target}{path[len(link):]} instead, or the link itself as [link."{link}"]',
            )

    def read(self, path: str, links: Collection[str] = ()) -> dict[str, Any] | None:
        """Type, mode, owner, group and (of a file) content or (of a link) target; None where nothing is.

        Raises NotPermitted without the right to, ResourceError where a parent is a foreign symbolic link.
        """
        self.check_parents(path, links)
        try:
            fd = os.open(path, _READ | self._noatime)
        except OSError as error:
            return self._read_unopened(path, error)
        try:
            status = os.fstat(fd)
            state = describe(status)
            if state["type"] == "file":
                state["content"] = _read_all(fd, status.st_size)
        except OSError as error:
            raise refused(path, error) from None
        finally:
            os.close(fd)
        return state

    def _read_unopened(self, path: str, error: OSError) -> dict[str, Any] | None:
        if error.errno == errno.ENOENT:
            return None
        if error.errno in (errno.ELOOP, errno.ENXIO):
            state = describe(os.lstat(path))
            if state["type"] == "link":
                state["target"] = os.readlink(path)
            return state
        raise refused(path, error) from None

    def read_entry(self, path: str, links: Collection[str] = ()) -> dict[str, Any] | None:
        """Like `read`, without opening it: type, mode, owner, group and (of a link) target."""
        self.check_parents(path, links)
        try:
            state = describe(os.lstat(path))
            if state["type"] == "link":
                state["target"] = os.readlink(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise refused(path, error) from None
        return state

    def parent_exists(self, path: str) -> bool:
        """Whether the folder that `path` stands in is there."""
        return os.path.isdir(os.path.dirname(path))  # noqa: PTH112, PTH120

    @contextlib.contextmanager
    def folder(self, path: str, links: Collection[str] = ()) -> Iterator[tuple[int, str]]:
        """The open parent folder of `path` and the last name of it, walked without following foreign links."""
        try:
            fd = _open_parent(path, links)
        except FileNotFoundError:
            raise Missing(
                f"the parent folder of {path} does not exist",
                hint=f'declare [directory."{os.path.dirname(path)}"]',  # noqa: PTH120
            ) from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                self._straight.clear()
                self.check_parents(path, links)
            raise refused(path, error) from None
        try:
            yield fd, os.path.basename(path)  # noqa: PTH119
        except OSError as error:
            raise refused(path, error) from None
        finally:
            os.close(fd)

    def replace(
        self,
        path: str,
        content: bytes,
        *,
        mode: str,
        owner: str | None = None,
        group: str | None = None,
        links: Collection[str] = (),
        validate: Callable[[], None] | None = None,
    ) -> None:
        """Put new content in place of the old in one instant.

        A temporary in the same folder gets owner, mode and content, is written to the disk and validated, and is
        then renamed over the path, and the folder is written to the disk: a reader, or a power cut, sees the old
        file or the new one. Where owner or group is None, those of the old file stay.
        """
        with self.folder(path, links) as (folder, name):
            uid, gid = _owner_to_have(folder, name, owner, group)
            temporary = temporary_name(path)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(temporary, flags, 0o600, dir_fd=folder)
            try:
                _fill(fd, content, uid, gid, int(mode, 8))
                if validate is not None:
                    validate()
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)
                raise
            finally:
                os.close(fd)
            os.fsync(folder)

    def set_attributes(
        self,
        path: str,
        *,
        mode: str | None = None,
        owner: str | None = None,
        group: str | None = None,
        links: Collection[str] = (),
    ) -> None:
        """Change mode, owner and group of what is there, never of what a link points to."""
        with self.folder(path, links) as (folder, name):
            fd = os.open(name, _READ, dir_fd=folder)
            try:
                if owner is not None or group is not None:
                    os.fchown(fd, -1 if owner is None else user_id(owner), -1 if group is None else group_id(group))
                if mode is not None:
                    os.fchmod(fd, int(mode, 8))
                os.fsync(fd)
            finally:
                os.close(fd)

    def make_directory(self, path: str, mode: str, links: Collection[str] = ()) -> None:
        """Make one folder."""
        with self.folder(path, links) as (folder, name):
            os.mkdir(name, 0o700, dir_fd=folder)
            fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            try:
                os.fchmod(fd, int(mode, 8))
            finally:
                os.close(fd)
            os.fsync(folder)

    def make_link(self, path: str, target: str, links: Collection[str] = ()) -> None:
        """Make or replace a symbolic link in one instant."""
        with self.folder(path, links) as (folder, name):
            temporary = temporary_name(path)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            os.symlink(target, temporary, dir_fd=folder)
            try:
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                os.unlink(temporary, dir_fd=folder)
                raise
            os.fsync(folder)

    def remove(self, path: str, links: Collection[str] = ()) -> None:
        """Remove a file, a link or an empty folder."""
        with self.folder(path, links) as (folder, name):
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                os.rmdir(name, dir_fd=folder)
            else:
                os.unlink(name, dir_fd=folder)
            os.fsync(folder)


def _first_link(folder: str, links: Collection[str]) -> str | None:
    if os.path.realpath(folder) == folder:
        return None
    path = ""
    for part in folder.split("/")[1:]:
        path += "/" + part
        if os.path.islink(path) and path not in links:  # noqa: PTH114
            return path
    return None


def _open_parent(path: str, links: Collection[str]) -> int:
    fd = os.open("/", _DIRECTORY)
    walked = ""
    for part in path.split("/")[1:-1]:
        walked += "/" + part
        follow = 0 if walked in links else os.O_NOFOLLOW
        try:
            deeper = os.open(part, _DIRECTORY | follow, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def _owner_to_have(folder: int, name: str, owner: str | None, group: str | None) -> tuple[int, int]:
    uid, gid = os.geteuid(), os.getegid()
    with contextlib.suppress(FileNotFoundError):
        old = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(old.st_mode):
            uid, gid = old.st_uid, old.st_gid
    return uid if owner is None else user_id(owner), gid if group is None else group_id(group)


def _fill(fd: int, content: bytes, uid: int, gid: int, mode: int) -> None:
    if (uid, gid) != (os.geteuid(), os.getegid()):
        os.fchown(fd, uid, gid)
    os.fchmod(fd, mode)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view[:_CHUNK]) :]
    os.fsync(fd)


def _read_all(fd: int, size: int) -> bytes:
    data = os.read(fd, size + 1) if size < _CHUNK else b""
    if len(data) == size and size < _CHUNK:
        return data
    parts = [data]
    while part := os.read(fd, _CHUNK):
        parts.append(part)
    return b"".join(parts)
