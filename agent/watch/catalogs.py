"""Changes to the catalogs of PostgreSQL."""

from __future__ import annotations

import select
from collections.abc import Mapping

from agent.sources import Catalog


class Catalogs:
    """The catalogs that a site declares something in."""

    def __init__(self) -> None:
        self._keys: dict[Catalog, set[str]] = {}

    def want(self, keys: Mapping[Catalog, set[str]]) -> None:
        """From now on tell of these."""
        self._keys = dict(keys)

    def arm(self, epoll: select.epoll, troubles: dict[str, str]) -> None:
        """Connect where it is not connected."""

    def read(self, fd: int, epoll: select.epoll) -> set[str]:  # noqa: ARG002
        """Whose catalog changed."""
        return set()

    def close(self) -> None:
        """Listen no more."""
