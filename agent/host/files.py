"""Files: read without disturbing them, replaced in one instant, never through a symbolic link by surprise."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator
from typing import Any

from agent.errors import Missing, ResourceError
from agent.host.names import group_id, group_name, user_id, user_name
from agent.host.paths import DIRECTORY, first_link, open_parent, refused, temporary_name

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
_CHUNK = 1 << 20
_LARGEST = 1 << 28


def describe(status: os.stat_result) -> dict[str, Any]:
    """Type, mode, owner and group as attributes of a state."""
    return {
        "type": _TYPES.get(stat.S_IFMT(status.st_mode), "special file"),
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "owner": user_name(status.st_uid),
        "group": group_name(status.st_gid),
    }


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
        parent = os.path.dirname(path)
        allowed = [link for link in links if path.startswith(link + "/")]
        if allowed or parent not in self._straight:
            link = first_link(parent, allowed)
            if not allowed:
                self._straight[parent] = link
        else:
            link = self._straight[parent]
        if link is not None:
            target = os.path.realpath(link)
            raise ResourceError(
                f"{path} leads through the symbolic link {link}",
                hint=f'declare {target}{path[len(link) :]} instead, or the link itself as [link."{link}"]',
            )

    def read(self, path: str, links: Collection[str] = ()) -> dict[str, Any] | None:
        """Type, mode, owner, group and (of a file) content or (of a link) target; None where nothing is.

        Raises NotPermitted without the right to, ResourceError where a parent is a foreign symbolic link.
        """
        state = self.read_entry(path, links)
        if state is None or state["type"] != "file":
            return state
        try:
            fd = self._open(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise refused(path, error) from None
        try:
            status = os.fstat(fd)
            state = describe(status)
            if state["type"] == "file":
                if status.st_size > _LARGEST:
                    raise ResourceError(f"{path} is too large to be read whole", hint="move it away")
                state["content"] = _read_all(fd, status.st_size)
        except OSError as error:
            raise refused(path, error) from None
        finally:
            os.close(fd)
        return state

    def _open(self, path: str) -> int:
        try:
            return os.open(path, _READ | self._noatime)
        except PermissionError:
            # O_NOATIME is for the owner (open(2)), which root is not on NFS or in a user namespace.
            return os.open(path, _READ)

    def read_entry(self, path: str, links: Collection[str] = ()) -> dict[str, Any] | None:
        """Like `read`, without opening it, which has effects on a device: no content."""
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

    def exists(self, path: str) -> bool:
        """Whether anything is at `path`, be it a link that leads nowhere."""
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise refused(path, error) from None
        return True

    def require_parent(self, path: str) -> None:
        """Raise Missing where the folder that `path` stands in is not there."""
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            raise Missing(f"the folder {folder} does not exist", hint=f'declare [directory."{folder}"]')

    def foresee(self, path: str, owner: str | None = None, group: str | None = None) -> None:
        """Raise Missing where the folder that `path` stands in, its owner or its group is not there."""
        self.require_parent(path)
        if owner is not None:
            user_id(owner)
        if group is not None:
            group_id(group)

    @contextlib.contextmanager
    def folder(self, path: str, links: Collection[str] = ()) -> Iterator[tuple[int, str]]:
        """The open parent folder of `path` and the last name of it, walked without following foreign links."""
        try:
            fd = open_parent(path, links)
        except FileNotFoundError:
            raise Missing(
                f"the parent folder of {path} does not exist",
                hint=f'declare [directory."{os.path.dirname(path)}"]',
            ) from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                self._straight.clear()
                self.check_parents(path, links)
            raise refused(path, error) from None
        try:
            yield fd, os.path.basename(path) or "."
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
                bits = stat.S_IMODE(os.fstat(fd).st_mode) if mode is None else int(mode, 8)
                if owner is not None or group is not None:
                    os.fchown(fd, -1 if owner is None else user_id(owner), -1 if group is None else group_id(group))
                if bits != stat.S_IMODE(os.fstat(fd).st_mode):  # chown(2) clears set-user-ID and set-group-ID
                    os.fchmod(fd, bits)
                os.fsync(fd)
            finally:
                os.close(fd)

    def make_directory(
        self, path: str, mode: str, *, owner: str | None = None, group: str | None = None, links: Collection[str] = ()
    ) -> None:
        """Make one folder; it is root's where no owner or group is given."""
        with self.folder(path, links) as (folder, name):
            uid = os.geteuid() if owner is None else user_id(owner)
            gid = os.getegid() if group is None else group_id(group)
            os.mkdir(name, 0o700, dir_fd=folder)
            try:
                fd = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                try:
                    _own(fd, uid, gid)
                    os.fchmod(fd, int(mode, 8))
                finally:
                    os.close(fd)
            except BaseException:
                os.rmdir(name, dir_fd=folder)
                raise
            os.fsync(folder)
        self.forget()

    def make_link(self, path: str, target: str, links: Collection[str] = ()) -> None:
        """Make a symbolic link, or replace one in one instant; anything else in its place is left alone."""
        with self.folder(path, links) as (folder, name):
            temporary = temporary_name(path)
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    raise FileExistsError(errno.EEXIST, "not a link")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            os.symlink(target, temporary, dir_fd=folder)
            try:
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                os.unlink(temporary, dir_fd=folder)
                raise
            os.fsync(folder)
        self.forget()

    def remove(self, path: str, links: Collection[str] = ()) -> None:
        """Remove a file or a link, never a folder; it is no error where it is gone already."""
        with contextlib.suppress(Missing), self.folder(path, links) as (folder, name):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
            os.fsync(folder)
        self.forget()

    def remove_directory(self, path: str, links: Collection[str] = ()) -> None:
        """Remove an empty folder, never what stands in it; it is no error where it is gone already."""
        with contextlib.suppress(Missing), self.folder(path, links) as (folder, name):
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(name, dir_fd=folder)
            os.fsync(folder)
        self.forget()


def _owner_to_have(folder: int, name: str, owner: str | None, group: str | None) -> tuple[int, int]:
    uid, gid = os.geteuid(), os.getegid()
    with contextlib.suppress(FileNotFoundError):
        old = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(old.st_mode):
            uid, gid = old.st_uid, old.st_gid
    return uid if owner is None else user_id(owner), gid if group is None else group_id(group)


def _fill(fd: int, content: bytes, uid: int, gid: int, mode: int) -> None:
    _own(fd, uid, gid)
    os.fchmod(fd, mode)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view[:_CHUNK]) :]
    if mode & 0o6000:
        os.fchmod(fd, mode)  # write(2) clears set-user-ID and set-group-ID without CAP_FSETID
    os.fsync(fd)


def _own(fd: int, uid: int, gid: int) -> None:
    # The group of what was just made is its folder's, not ours, where that has set-group-ID (inode(7)).
    made = os.fstat(fd)
    if (uid, gid) != (made.st_uid, made.st_gid):
        os.fchown(fd, uid, gid)


def _read_all(fd: int, size: int) -> bytes:
    data = os.read(fd, size + 1) if size < _CHUNK else b""
    if len(data) == size and size < _CHUNK:
        return data
    parts = [data]
    while part := os.read(fd, _CHUNK):
        parts.append(part)
    return b"".join(parts)
