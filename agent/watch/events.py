"""All event sources of a site behind one wait: folders, netfilter, mounts, daemons, catalogs, the site's own files.

A source that cannot be had is said so in `troubles`; what it would tell of is then looked at every `BLIND` seconds, and
the source is tried again each time.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterable, Iterator, Set

from agent.errors import ResourceError
from agent.graph import Entry
from agent.host.inotify import Inotify
from agent.host.mountevents import MountEvents, open_daemon
from agent.host.mounts import real
from agent.host.netfilter.events import RuleEvents
from agent.sources import At, Below, Catalog, MountAt, Rules
from agent.watch.catalogs import Catalogs
from agent.watch.folders import Folders, News

SITE = "site:"
"""The key of what the site itself is made of."""
BLIND = 30.0


class Events:
    """Everything that wakes the agent. `netns` is the path of the network namespace whose rules are meant."""

    def __init__(self, netns: str | None = None) -> None:
        self._epoll = select.epoll()
        self._netns = netns
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._inotify: Inotify | None = None
        self.folders: Folders | None = None
        self._rules: RuleEvents | None = None
        self._mounts: MountEvents | None = None
        self._daemons: dict[int, str] = {}
        self.catalogs = Catalogs()
        self._rule_keys: set[str] = set()
        self._mount_keys: dict[str, set[str]] = {}
        self._paths: list[tuple[At | Below, str]] = []
        self._path_keys: set[str] = set()
        self.own_writers: Callable[[], Set[int]] = frozenset
        """The agent's own programs that changed rules since this was last asked: what they did is no event."""
        self.troubles: dict[str, str] = {}
        """Sources that cannot be had, with the reason."""

    # What is asked for

    def watch(self, entries: Iterable[Entry], own: Iterable[At | Below]) -> None:
        """From now on watch what these resources ask for, and files of the agent's own."""
        self._paths = [(source, SITE) for source in own]
        self._rule_keys, self._mount_keys = set(), {}
        catalogs: dict[Catalog, set[str]] = {}
        for entry in entries:
            for source in entry.resource.watched():
                if isinstance(source, At | Below):
                    self._paths.append((source, entry.id))
                elif isinstance(source, Rules):
                    self._rule_keys.add(entry.id)
                elif isinstance(source, MountAt):
                    self._mount_keys.setdefault(real(source.path), set()).add(entry.id)
                else:
                    catalogs.setdefault(source, set()).add(entry.id)
        self._path_keys = {key for _, key in self._paths}
        self._paths += self.catalogs.want(catalogs)
        self.arm()
        if self.folders is not None:
            self._paths = []

    def arm(self) -> None:
        """Arm every source that is asked for and is not armed, and say which cannot be."""
        self.troubles.clear()
        self._arm_folders()
        if self._rule_keys and self._rules is None:
            with self._in_trouble("iptables"):
                self._rules = RuleEvents(self._netns)
                self._epoll.register(self._rules.fileno(), select.EPOLLIN)
        if self._mounts is None:
            with self._in_trouble("mounts"):
                self._mounts = MountEvents()
                self._epoll.register(self._mounts.fileno(), select.EPOLLPRI)
        for path in self._mount_keys:
            self._find_daemon(path)
        for why in self.catalogs.unseen:
            self.troubles["postgresql"] = why

    def _arm_folders(self) -> None:
        with self._in_trouble("files"):
            if self.folders is None:
                self._inotify = Inotify()
                self.folders = Folders(self._inotify)
                self._epoll.register(self._inotify.fileno(), select.EPOLLIN)
            if self._paths:
                self.folders.want(self._paths)
            else:
                self.folders.arm()
            if self.folders.problem:
                self.troubles["files"] = self.folders.problem

    def _in_trouble(self, name: str) -> _Trouble:
        return _Trouble(self.troubles, name)

    def _find_daemon(self, path: str) -> None:
        if path not in self._daemons.values():
            fd = open_daemon(path)
            if fd is not None:
                self._daemons[fd] = path
                self._epoll.register(fd, select.EPOLLIN)

    def blind(self) -> set[str]:
        """Whose events are missed."""
        found = set().union(*self.catalogs.unseen.values())
        if "files" in self.troubles:
            found |= self._path_keys
        if "iptables" in self.troubles:
            found |= self._rule_keys
        if "mounts" in self.troubles:
            found = found.union(*self._mount_keys.values())
        return found

    def call(self, fd: int, callback: Callable[[], object]) -> None:
        """Call this whenever the file can be read."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, select.EPOLLIN)

    # What happened

    def wait(self, timeout: float | None) -> News:
        """What happened since the last time; waits for something to happen, for so many seconds at most."""
        news = News()
        try:
            ready = self._epoll.poll(timeout)
        except InterruptedError:
            return news
        for fd, _ in ready:
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback()
            else:
                self._read(fd, news)
        return news

    def pending(self) -> News:
        """What happened already, without callbacks."""
        news = News()
        for fd, _ in self._epoll.poll(0):
            if fd not in self._callbacks:
                self._read(fd, news)
        return news

    def _read(self, fd: int, news: News) -> None:
        if self._inotify is not None and self.folders is not None and fd == self._inotify.fileno():
            found = self.folders.read()
            news.keys |= found.keys
            news.overflow |= found.overflow
        elif self._rules is not None and fd == self._rules.fileno():
            if self._rules.read() - self.own_writers():
                news.keys |= self._rule_keys
        elif self._mounts is not None and fd == self._mounts.fileno():
            news.keys.update(self._of_mounts(self._mounts.read()))
        elif fd in self._daemons:
            news.keys.update(self._of_daemon(fd))

    def _of_mounts(self, changed: set[str]) -> Iterator[str]:
        if self.folders is not None and changed:
            yield from self.folders.again(changed)
        for path in changed:
            yield from self._mount_keys.get(path, ())
            if path in self._mount_keys:
                self._find_daemon(path)

    def _of_daemon(self, fd: int) -> Iterator[str]:
        path = self._daemons.pop(fd)
        self._epoll.unregister(fd)
        os.close(fd)
        yield from self._mount_keys.get(path, ())
        self._find_daemon(path)

    def close(self) -> None:
        """Listen no more."""
        for source in (self._inotify, self._rules, self._mounts):
            if source is not None:
                source.close()
        for fd in self._daemons:
            os.close(fd)
        self.catalogs.close()
        self._epoll.close()


class _Trouble:
    """Notes why a source cannot be had, in place of the error."""

    def __init__(self, troubles: dict[str, str], name: str) -> None:
        self._troubles, self._name = troubles, name

    def __enter__(self) -> None:
        """Nothing is wrong yet."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, OSError | ResourceError):
            self._troubles[self._name] = str(error)
            return True
        return False
