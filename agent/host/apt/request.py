"""What one resource asks of apt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent.host.apt.dpkg import Dpkg


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one resource asks for.

    `unmet` tells which of its packages are not yet as they should be. `version` is a pattern, `answers` are lines
    for debconf-set-selections(1), `may_change_held` allows to change packages of its own that are on hold.
    """

    id: str
    packages: tuple[str, ...]
    unmet: Callable[[], Sequence[str]]
    remove: bool = False
    purge: bool = False
    version: str | None = None
    release: str | None = None
    recommends: bool = False
    hold: bool | None = None
    may_change_held: bool = False
    answers: tuple[str, ...] = field(default=(), repr=False)


def plain_request(dpkg: Dpkg, id: str, names: Sequence[str], *, remove: bool, hold: bool | None = None) -> Request:
    """A request for packages to be there, or gone, and no more than that."""

    def unmet() -> list[str]:
        return [name for name in names if dpkg.is_gone(name) is not remove]

    return Request(id=id, packages=tuple(names), unmet=unmet, remove=remove, hold=hold, may_change_held=True)
