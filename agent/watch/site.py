"""The site under watch: what it is made of, and which resources a change of it concerns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from agent.declaration.compiled import Origin
from agent.declaration.desired import Desired
from agent.declaration.listing import is_glob
from agent.errors import AgentError, DeclarationError
from agent.graph import Entry
from agent.sources import At, Below
from agent.watch.events import Events
from agent.watch.rounds import Pulse

_PATIENCE = 30.0
_STILL = 0.2
Load = Callable[[], tuple[Desired, Origin]]
_Stamp = tuple[int, int, int] | None


@dataclass
class Changed:
    """What a new site changes: ids to be looked at, and ids that are no longer declared."""

    ids: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)


class Site:
    """The last good site. Raises what `load` raises where there has been none."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._read_at = time.time()
        self.desired, self._origin = load()
        self._stamps = self._secret_stamps(self.desired)
        self.problem: AgentError | None = None
        """Why the declarations of now are not in force; None where they are."""

    def own(self) -> Iterator[At | Below]:
        """What to watch of the site itself; after an error also what was read to find that."""
        yield from _sources(self._origin.files, self._origin.listings)
        if isinstance(self.problem, DeclarationError):
            yield from _sources(self.problem.files, self.problem.listings)
        for source in self.desired.sources.values():
            if source.file:
                yield from map(At, _places(source.file))

    def is_stale(self) -> bool:
        """Whether anything of it was written since it was last read, as may happen before it is watched."""
        return any(_written_since(path, self._read_at) for path in self._origin.files)

    def read_again(self) -> Changed | None:
        """Read it again; None where nothing follows, or it is wrong: then `problem` says why, and the old one stays."""
        self._read_at = time.time()
        try:
            desired, origin = self._load()
        except AgentError as error:
            self.problem = error
            return None
        self.problem = None
        stamps = self._secret_stamps(desired)
        if desired.fingerprint == self.desired.fingerprint and desired.fingerprint and stamps == self._stamps:
            self._origin = origin
            return None
        changed = _compared(self.desired, desired)
        for id, names in desired.users.items():
            if any(stamps.get(name) != self._stamps.get(name) for name in names):
                changed.ids.add(id)
        self.desired, self._origin, self._stamps = desired, origin, stamps
        return changed

    def _secret_stamps(self, desired: Desired) -> Mapping[str, _Stamp]:
        return {name: _stamp(source.file) for name, source in desired.sources.items() if source.file}


def wait_until_changed(error: DeclarationError, since: float, events: Events, pulse: Pulse) -> None:
    """Wait until a site that was found wrong, when it was read at `since`, is no longer what it was, and lies still."""
    events.watch((), _sources(error.files, error.listings))
    if not any(_written_since(path, since) for path in error.files):
        while not events.wait(_PATIENCE).keys:
            pulse.beat()
    while events.wait(_STILL).keys:
        pass


def _sources(files: Iterable[str], listings: Iterable[tuple[str, str]]) -> Iterator[At | Below]:
    """Each under its name, and where links lead: what is there may be written to without them."""
    for path in files:
        yield from map(At, _places(path))
    for folder, pattern in dict.fromkeys(map(tuple, listings)):
        yield from _of_listing(folder, pattern)


def _places(path: str) -> Iterable[str]:
    return dict.fromkeys((os.path.abspath(path), os.path.realpath(path)))


def _compared(old: Desired, new: Desired) -> Changed:
    before = {entry.id: entry for entry in old.entries}
    ids = {entry.id for entry in new.entries if not _same(before.get(entry.id), entry)}
    return Changed(ids, before.keys() - {entry.id for entry in new.entries})


def _same(old: Entry | None, new: Entry) -> bool:
    return old is not None and old.resource == new.resource and old.requires == new.requires


def _of_listing(folder: str, pattern: str) -> Iterator[At | Below]:
    """Where the files show that a glob may find."""
    path = os.path.join(folder, pattern)
    if not is_glob(pattern):
        yield from map(At, _places(path))
        return
    fixed = path
    while is_glob(fixed):
        fixed = os.path.dirname(fixed)
    for place in _places(fixed):
        yield Below(place, deep=os.path.dirname(path) != fixed)


def _stamp(path: str) -> _Stamp:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _written_since(path: str, moment: float) -> bool:
    try:
        return os.stat(path).st_ctime >= moment - 0.02  # the clock of file systems is that coarse
    except OSError:
        return False
