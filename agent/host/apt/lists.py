"""apt's lists of packages: fetched when an installation needs them, and what they offer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from agent.errors import ResourceError
from agent.host.apt.dpkg import LISTS_FRESH, LISTS_STALE, Dpkg
from agent.host.apt.get import AptGet
from agent.host.apt.request import Request

LISTS = "/var/lib/apt/lists"
SOURCES = "/etc/apt/sources.list"
DAY = 86400.0


class AptLists:
    """What apt offers to requests for installations."""

    def __init__(self, dpkg: Dpkg, apt: AptGet, done: set[str]) -> None:
        self._dpkg = dpkg
        self._apt = apt
        self._done = done
        self._trouble = ""

    @property
    def fresh(self) -> bool:
        """Whether they were fetched in this run."""
        return LISTS_FRESH in self._done

    def refresh(self, wanted: Sequence[Request]) -> None:
        """Fetch them where they are missing, old or stale, or where something is not in them."""
        if not wanted:
            return
        if LISTS_STALE in self._done or sources_changed() or (not self.fresh and outdated()):
            self.update()
        for release in dict.fromkeys(request.release for request in wanted):
            names = [name for request in wanted if request.release == release for name in request.unmet()]
            try:
                self._dpkg.policies(names, release)
            except ResourceError:
                continue  # Each of its requests gets the reason from `refusal`.
        if not self.fresh and any(self._lacks(request) for request in wanted):
            self.update()

    def update(self) -> None:
        """Fetch them."""
        self._trouble = self._apt.update()
        self._done.discard(LISTS_STALE)
        self._done.add(LISTS_FRESH)
        self._dpkg.forget()

    def _lacks(self, request: Request) -> bool:
        """Whether no version of one of its packages is offered that would do."""
        try:
            policies = self._dpkg.policies(request.unmet(), request.release)
        except ResourceError:
            return True
        return any(name not in policies or not policies[name].choice(request.version) for name in request.unmet())

    def refusal(self, request: Request) -> ResourceError | None:
        """Why apt cannot install what a request asks for, as far as its lists tell."""
        return refusal(self._dpkg, request, self._trouble)


def refusal(dpkg: Dpkg, request: Request, trouble: str = "") -> ResourceError | None:
    """Why apt cannot install what a request asks for, as its lists tell; `trouble` was had when they were fetched."""
    if request.remove:
        return None
    try:
        policies = dpkg.policies(request.unmet(), request.release)
    except ResourceError as error:
        return error
    unknown = [name for name in request.unmet() if name not in policies]
    if unknown:
        hint = "is it spelled right, and does a source offer it (apt_source)?"
        return ResourceError(f"apt knows no package {', '.join(unknown)}", detail=trouble, hint=hint)
    for name in request.unmet():
        if request.version is not None and policies[name].choice(request.version) is None:
            offered = ", ".join(policies[name].versions[:8]) or "none"
            text = f"no source offers {name} in version {request.version}"
            return ResourceError(text, detail=f"offered: {offered}")
    return None


def outdated() -> bool:
    """Whether the lists are missing or older than a day."""
    there = any(path.is_file() and path.name != "lock" for path in Path(LISTS).glob("*"))
    return not there or not 0 <= time.time() - _fetched() < DAY


def sources_changed() -> bool:
    """Whether a declared source of packages is newer than the lists."""
    fetched = _fetched()
    sources = [Path(SOURCES), Path(f"{SOURCES}.d"), *Path(f"{SOURCES}.d").glob("*")]
    return any(path.exists() and path.stat().st_mtime > fetched for path in sources)


def _fetched() -> float:
    """When the lists were last fetched, in seconds since the epoch."""
    try:
        # apt writes every index there first, even where the server says that nothing changed.
        return Path(LISTS, "partial").stat().st_mtime
    except OSError:
        return 0.0
