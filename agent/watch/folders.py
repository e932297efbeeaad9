"""Paths into inotify watches, and events into the keys (resource ids) of those who asked for the path.

Watches are on folders: a file that is replaced or removed takes a watch of its own with it. A folder that holds a
wanted name is watched for all that comes of its names; those above it only for being moved or removed themselves, so
that a busy folder on the way wakes nobody. Where a folder is missing, the one above it is watched for it to appear.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from agent.errors import ResourceError
from agent.host.inotify import (
    APPEARS,
    CONTENT,
    GONE,
    IN_ATTRIB,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_ISDIR,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_Q_OVERFLOW,
    FolderEvent,
    Inotify,
)
from agent.sources import At, Below

_OWN = ".state-agent-"
_ITSELF = IN_DELETE_SELF | IN_MOVE_SELF
_STANDS_ELSEWHERE = APPEARS | IN_DELETE | IN_MOVED_FROM


@dataclass(slots=True)
class _Folder:
    """A watched folder; `number` is its watch, None while it is missing; `found` in a tree, not asked for by name."""

    found: bool = False
    content: bool = False
    number: int | None = None
    trees: tuple[str, ...] = ()


@dataclass
class News:
    """What was told: whose paths were touched; with `overflow`, more than can be said."""

    keys: set[str] = field(default_factory=set)
    overflow: bool = False


class Folders:
    """All folders that are watched, through one inotify instance."""

    def __init__(self, inotify: Inotify) -> None:
        self._inotify = inotify
        self._owners: dict[str, tuple[str, ...]] = {}
        self._trees: dict[str, list[tuple[Below, str]]] = {}
        self._folders: dict[str, _Folder] = {}
        self._paths: dict[int, list[str]] = {}
        self.problem = ""
        """Why not all of it is watched; empty where it is."""

    @property
    def count(self) -> int:
        """How many folders are watched."""
        return len(self._paths)

    def want(self, asked: Iterable[tuple[At | Below, str]]) -> None:
        """From now on watch these for their keys, and nothing else."""
        self._owners.clear()
        self._trees.clear()
        wanted: dict[str, bool] = {}
        for source, key in asked:
            if isinstance(source, Below):
                self._trees.setdefault(source.path, []).append((source, key))
                _add_with_parents(wanted, source.path)
            else:
                known = self._owners.get(source.path, ())
                self._owners[source.path] = known if key in known else (*known, key)
                _add_with_parents(wanted, os.path.dirname(source.path))
        roots = set(self._trees)
        for path in [path for path in self._folders if path not in wanted and not _within(path, roots)]:
            self._drop(path)
        for path, content in wanted.items():
            folder = self._folders.setdefault(path, _Folder())
            folder.found = False
            if content and not folder.content:
                folder.content = True
                if folder.number is not None:
                    self._arm(path)
        self.arm()

    def arm(self) -> None:
        """Put a watch on every folder that has none."""
        self.problem = ""
        for path in sorted(path for path, folder in self._folders.items() if folder.number is None):
            self._arm(path)
        for root in self._trees:
            self._walk(root, (root,))

    def read(self) -> News:
        """What happened since the last time."""
        news = News()
        lost: set[str] = set()
        for event in self._inotify.read():
            if event.mask & IN_Q_OVERFLOW:
                news.overflow = True
                lost.add("/")
            for path in tuple(self._paths.get(event.watch, ())):
                if event.name:
                    self._in_folder(path, event, news.keys, lost)
                else:
                    self._of_folder(path, event, news.keys, lost)
        if lost:
            news.keys |= self.again(lost)
        return news

    def again(self, lost: set[str]) -> set[str]:
        """Arm anew all that stands at or below these paths; gives whose paths stand there."""
        for path in sorted(path for path in self._folders if _within(path, lost)):
            self._arm(path)
        for root in self._trees:
            if _within(root, lost) or any(path.startswith(root + "/") for path in lost):
                self._walk(root, (root,))
        keys = {key for path, keys in self._owners.items() if _within(path, lost) for key in keys}
        return keys | {key for root, trees in self._trees.items() if _within(root, lost) for _, key in trees}

    # Events

    def _in_folder(self, folder: str, event: FolderEvent, keys: set[str], lost: set[str]) -> None:
        if event.name.startswith(_OWN):
            return
        path = f"{'' if folder == '/' else folder}/{event.name}"
        keys.update(self._owners.get(path, ()))
        if path in self._folders and event.mask & _STANDS_ELSEWHERE:
            lost.add(path)
        for root in self._folders[folder].trees:
            keys.update(self._of_tree(root, path))
            if event.mask & IN_ISDIR and event.mask & APPEARS:
                self._walk(path, self._folders[folder].trees)

    def _of_tree(self, root: str, path: str) -> Iterator[str]:
        for below, key in self._trees.get(root, ()):
            if not below.deep and os.path.dirname(path) != root:
                continue
            if any(fnmatchcase(os.path.basename(path), glob) for glob in below.but):
                continue
            if not below.names:
                if path not in self._owners:
                    yield key
                continue
            parts = path[len(root) + 1 :].split("/")
            if any(part == name or part.startswith(name + ".") for part in parts for name in below.names):
                yield key

    def _of_folder(self, path: str, event: FolderEvent, keys: set[str], lost: set[str]) -> None:
        if event.mask & IN_ATTRIB:
            keys.update(self._owners.get(path, ()))
        if event.mask & GONE:
            if self._folders[path].found:
                self._drop(path)
            else:
                self._unwatch(path)
            lost.add(path)

    # Watches

    def _arm(self, path: str) -> None:
        folder = self._folders[path]
        number = self._add(path, _ITSELF | CONTENT * folder.content)
        if number is None and path != "/" and not self.problem:
            self._add(os.path.dirname(path), APPEARS)
            number = self._add(path, _ITSELF | CONTENT * folder.content)  # it may have come in between
        if number != folder.number:
            self._unwatch(path)
            folder.number = number
            if number is not None:
                self._paths.setdefault(number, []).append(path)

    def _add(self, path: str, mask: int) -> int | None:
        try:
            return self._inotify.add(path, mask)
        except ResourceError as error:
            self.problem = str(error)
            return None

    def _walk(self, path: str, trees: tuple[str, ...]) -> None:
        """Watch a folder of a tree and all below it, but nothing that links lead to."""
        if os.path.islink(path):
            return
        folder = self._folders.setdefault(path, _Folder(found=True))
        folder.content = True
        folder.trees = tuple(dict.fromkeys((*folder.trees, *trees)))
        self._arm(path)
        if folder.number is None or not any(source.deep for root in trees for source, _ in self._trees.get(root, ())):
            return
        try:
            with os.scandir(path) as entries:
                deeper = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return
        for each in deeper:
            self._walk(each, folder.trees)

    def _unwatch(self, path: str) -> None:
        folder = self._folders[path]
        number, folder.number = folder.number, None
        if number is None:
            return
        others = self._paths.get(number, [])
        if path in others:
            others.remove(path)
        if not others:
            self._paths.pop(number, None)
            self._inotify.remove(number)

    def _drop(self, path: str) -> None:
        self._unwatch(path)
        del self._folders[path]


def _add_with_parents(wanted: dict[str, bool], path: str) -> None:
    """A folder whose names count, and those above it, which only have to stay where they are."""
    wanted[path or "/"] = True
    while path != "/":
        path = os.path.dirname(path)
        if path in wanted:
            return
        wanted[path] = False


def _within(path: str, places: set[str]) -> bool:
    """Whether a path is one of these places, or lies below one."""
    while path not in places:
        if path in ("/", ""):
            return False
        path = os.path.dirname(path)
    return True
