"""Changes to what is declared in PostgreSQL: an event of a cluster's log leads to a look at digests."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from agent.errors import ResourceError
from agent.sources import Below, Catalog

if TYPE_CHECKING:
    from agent.host.postgres.connections import Postgres

LOG = "log:"
"""What the key of a cluster's log begins with."""
_SHARE = 20.0
"""Digests that find nothing take one part in so many of a server's time: a busy one is left alone."""
_CREDIT = 2.0
"""Seconds of that rest that a server which was left alone before does without: what comes singly is seen at once."""


class Catalogs:
    """The catalogs that a site declares something in, with whose they are."""

    def __init__(self) -> None:
        self._keys: dict[Catalog, set[str]] = {}
        self._digests: dict[Catalog, str] = {}
        self._by_log: dict[str, list[Catalog]] = {}
        self._postgres: Postgres | None = None
        self._rest_until = 0.0
        self.unseen: dict[str, set[str]] = {}
        """Why a cluster cannot be watched, with whose catalogs it has."""

    def want(self, keys: Mapping[Catalog, set[str]]) -> Iterator[tuple[Below, str]]:
        """From now on tell of these; gives what to watch for that."""
        self._keys, self._by_log, self.unseen = dict(keys), {}, {}
        for gone in self._digests.keys() - self._keys.keys():
            del self._digests[gone]
        folders: dict[str | None, str] = {}
        for catalog, ids in self._keys.items():
            try:
                folder = folders.get(catalog.cluster) or _log_folder(catalog.cluster)
            except ResourceError as error:
                self.unseen.setdefault(str(error), set()).update(ids)
                continue
            if catalog.cluster not in folders:
                folders[catalog.cluster] = folder
                yield Below(folder, deep=False), LOG + folder
            self._by_log.setdefault(LOG + folder, []).append(catalog)

    def rest(self, now: float) -> float:
        """Seconds for which servers are still left alone."""
        return max(0.0, self._rest_until - _CREDIT - now)

    def changed(self, log: str | None = None) -> set[str]:
        """Whose catalogs changed since this was last asked: of one log, or of all."""
        from agent.host.postgres.connections import Postgres
        from agent.host.postgres.digest import connect

        catalogs = self._keys if log is None else self._by_log.get(log, ())
        if not catalogs:
            return set()
        if self._postgres is None:
            self._postgres = Postgres()
        self._postgres.forget()
        found: set[str] = set()
        taken = 0.0
        by_database: dict[tuple[str | None, str | None], list[Catalog]] = {}
        for catalog in catalogs:
            by_database.setdefault((catalog.cluster, catalog.database), []).append(catalog)
        for place, mine in by_database.items():
            connect(self._postgres, *place)  # which takes long, and is seldom
            started = time.monotonic()
            for catalog, now in _digests(self._postgres, place, mine):
                if self._digests.get(catalog) != now:
                    self._digests[catalog] = now
                    found |= self._keys[catalog]
            taken += time.monotonic() - started
        if not found:
            self._rest_until = max(time.monotonic(), self._rest_until) + _SHARE * taken
        return found

    def close(self) -> None:
        """Give the connections up."""
        if self._postgres is not None:
            self._postgres.close()
            self._postgres = None


def _digests(
    postgres: Postgres, place: tuple[str | None, str | None], catalogs: Sequence[Catalog]
) -> Iterator[tuple[Catalog, str]]:
    """What those of one database consist of now; all its tables cost one query."""
    from agent.host.postgres.digest import digest, digest_of_rows, digests

    tables = {catalog.table: catalog for catalog in catalogs if catalog.table is not None and not catalog.rows}
    if tables:
        yield from ((tables[table], now) for table, now in digests(postgres, *place, list(tables)).items())
    for catalog in catalogs:
        if catalog.table is None:
            yield catalog, digest(postgres, *place)
        elif catalog.rows:
            yield catalog, digest_of_rows(postgres, *place, catalog.table)


def _log_folder(cluster: str | None) -> str:
    from agent.host.postgres.digest import log_folder

    return log_folder(cluster)
