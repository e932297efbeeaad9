"""The PostgreSQL clusters of this host: which there are, which of them run, and where they listen.

Debian keeps the configuration of each in /etc/postgresql/VERSION/NAME (pg_createcluster(1)). A running one has a
postmaster.pid in its data directory that says on what socket and port it listens, whatever its configuration says now.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.errors import Missing, NotPermitted, ResourceError

ETC = "/etc/postgresql"
_DATA = "/var/lib/postgresql"
_SETTING = re.compile(r"^\s*data_directory\s*=?\s*'((?:[^']|'')*)'", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster: its name, the user it runs as, and its socket's folder and port."""

    name: str
    data: Path
    uid: int
    folder: str
    port: int


class Clusters:
    """The clusters below `etc`, and those named by their data directory."""

    def __init__(self, etc: str = ETC) -> None:
        self._etc = Path(etc)

    def names(self) -> list[str]:
        """All that Debian's tools know, as VERSION/NAME, in the order of their versions."""
        found = [path.parent for path in self._etc.glob("*/*/postgresql.conf")]
        return [f"{path.parent.name}/{path.name}" for path in sorted(found, key=_by_version)]

    def find(self, wanted: str | None) -> Cluster:
        """The running cluster that is wanted, or the only one that runs.

        Raises Missing where there is none or it does not run, ResourceError where it is not clear which,
        NotPermitted without root.
        """
        if wanted is not None:
            return self._named(wanted)
        names = self.names()
        if not names:
            raise Missing("there is no PostgreSQL cluster on this host", hint="declare [apt.postgresql]")
        running = [cluster for name in names if (cluster := self._running(name)) is not None]
        if len(running) > 1:
            shown = ", ".join(cluster.name for cluster in running)
            raise ResourceError(
                f"several PostgreSQL clusters run on this host: {shown}",
                hint=f'say which one is meant: cluster = "{running[0].name}"',
            )
        if not running:
            raise _down(names)
        return running[0]

    def _named(self, wanted: str) -> Cluster:
        if not wanted.startswith("/") and wanted not in self.names():
            known = ", ".join(self.names()) or "none"
            raise Missing(
                f"there is no PostgreSQL cluster {wanted} on this host", hint=f"there is: {known} (pg_lsclusters)"
            )
        cluster = self._running(wanted)
        if cluster is None:
            raise _down([wanted])
        return cluster

    def _running(self, name: str) -> Cluster | None:
        data = Path(name) if name.startswith("/") else self._data(name)
        path = data / "postmaster.pid"
        try:
            lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
            owner = path.stat().st_uid
        except FileNotFoundError:
            return None
        except PermissionError:
            raise NotPermitted(f"the PostgreSQL cluster {name} can only be reached by root") from None
        # pid, data directory, time of start, port, folder of the first socket, … (utils/pidfile.h)
        if len(lines) < 5 or not lines[0].strip().lstrip("-").isdigit():
            return None
        if not os.path.exists(f"/proc/{lines[0].strip().lstrip('-')}"):
            return None  # it was killed, and left its file behind
        if not lines[4]:
            raise ResourceError(
                f"the PostgreSQL cluster {name} listens on no unix socket",
                hint="set unix_socket_directories in its postgresql.conf",
            )
        return Cluster(name, data, owner, lines[4], int(lines[3]))

    def _data(self, name: str) -> Path:
        try:
            text = (self._etc / name / "postgresql.conf").read_text(encoding="utf-8", errors="surrogateescape")
        except PermissionError:
            raise NotPermitted(f"the configuration of the PostgreSQL cluster {name} is readable by root only") from None
        found = _SETTING.findall(text)
        return Path(found[-1].replace("''", "'")) if found else Path(_DATA, name)


def _by_version(folder: Path) -> tuple[list[int], str]:
    return [int(part) for part in re.findall(r"\d+", folder.parent.name)], folder.name


def _down(names: Sequence[str]) -> Missing:
    if len(names) > 1:
        return Missing(f"no PostgreSQL cluster runs on this host; there are {', '.join(names)}")
    name = names[0]
    if name.startswith("/"):
        return Missing(f"no PostgreSQL server runs on {name}")
    unit = f"postgresql@{name.replace('/', '-')}"
    return Missing(f"the PostgreSQL cluster {name} does not run", hint=f"systemctl start {unit}; journalctl -u {unit}")
