"""What a resource asks to be watched: each stands for a place where its drift can be seen as it happens.

A kind names them by `Resource.watched`; `agent/watch/` arms them. An event says only "look again": one too many
costs a reading, and one too few is made up for by `check_every`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class At:
    """Whatever is at this absolute path: made, written to, replaced, moved, removed, its mode or owner changed."""

    path: str


@dataclass(frozen=True, slots=True)
class Below:
    """All that lies in this folder, at any depth unless not `deep`; with `names` only what one of these leads to.

    `UNIT` as a name stands for `UNIT` itself and for what begins with `UNIT.`, such as `UNIT.d`. What one of the globs
    `but` matches the last name of is none of it.
    """

    path: str
    names: tuple[str, ...] = ()
    deep: bool = True
    but: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of netfilter, of every table and family."""


@dataclass(frozen=True, slots=True)
class MountAt:
    """What is mounted at this path, and the daemon that serves it where it is one of gocryptfs."""

    path: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """What PostgreSQL's catalogs say of a cluster's roles and databases, of one database as a whole, or of one table.

    With `rows` it is the rows of that table instead.
    """

    cluster: str | None
    database: str | None = None
    table: tuple[str, str] | None = None
    rows: bool = False


Source = At | Below | Rules | MountAt | Catalog
