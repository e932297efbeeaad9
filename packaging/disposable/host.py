"""One host as it is seen from the machine, and what remains of it by name."""

import contextlib
import json
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disposable.machine import CACHE, REALM, SUBNET, HostError, children, kill, locked, sh


@dataclass(frozen=True)
class Host:
    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", self.name):
            raise HostError(f"{self.name!r} is no name: lower-case letters, digits and hyphens make one")

    @property
    def folder(self) -> Path:
        return CACHE / "hosts" / self.name

    @property
    def root(self) -> Path:
        """Where the keeper mounts the disk; only the keeper and its children see it there."""
        return self.folder / "root"

    def record(self) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads((self.folder / "host.json").read_text())
        except FileNotFoundError:
            raise HostError(f"there is no host {self.name}") from None
        return record

    @property
    def index(self) -> int:
        return int(self.record()["index"])

    @property
    def address(self) -> str:
        return f"{SUBNET}.{self.index}"

    @property
    def port(self) -> str:
        """The host's port on the bridge."""
        return f"host{self.index}"

    def keeper(self) -> int | None:
        """Returns the PID of the host's keeper, if that runs."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int((self.folder / "keeper").read_text())
            if f"\0_keep\0{self.name}\0" in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
        return None

    def leader(self) -> int | None:
        """Returns the PID, as the machine counts, of the host's systemd, if that runs."""
        unshare = children(self.keeper() or 0)
        nspawn = [pid for parent in unshare for pid in children(parent)]
        for pid in [pid for parent in nspawn for pid in children(parent)]:
            # nspawn's helpers are its children too, and the host's PID 1 is called nspawn until it becomes systemd.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    return pid
        return None

    def running(self) -> int:
        """Returns the leader or raises HostError."""
        if leader := self.leader():
            return leader
        raise HostError(f"the host {self.name} is not running")


def all_hosts() -> list[Host]:
    folder = CACHE / "hosts"
    return [Host(path.name) for path in sorted(folder.iterdir())] if folder.is_dir() else []


def cgroups(host: Host) -> list[Path]:
    """The host's cgroup in the unified hierarchy, and in systemd's own where the machine still has cgroup v1."""
    roots = map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"))
    return [root / f"{REALM}-{host.name}" for root in roots if (root / "cgroup.procs").exists()]


def clear_cgroups(host: Host) -> None:
    """Ends whatever still runs in the host's cgroups, and removes them."""
    deadline = time.monotonic() + 15
    while groups := [Path(group) for top in cgroups(host) for group, _, _ in os.walk(top, topdown=False)]:
        for group in groups:
            with contextlib.suppress(OSError):
                for pid in (group / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
                group.rmdir()
        if time.monotonic() > deadline:
            raise HostError(f"processes remain in {groups[-1]}")
        time.sleep(0.01)


def remove(host: Host) -> None:
    """Removes a host or whatever is left of one; also the last act of a keeper that has lost its owner."""
    if (keeper := host.keeper()) and keeper != os.getpid():
        kill(keeper)
    clear_cgroups(host)
    with locked("hosts"):
        with contextlib.suppress(HostError):
            sh("ip", "-n", REALM, "link", "delete", host.port, check=False)
        sh("umount", "--lazy", str(host.root), check=False)
        sh("rm", "-rf", "--one-file-system", str(host.folder))
        if not all_hosts() and Path("/run/netns", REALM).exists():
            sh("ip", "netns", "delete", REALM)


def register(host: Host, fqdn: str | None) -> None:
    """Gives a new host its folder, its address and, if it is the first one, the network."""
    with locked("hosts"):
        taken = {other.index for other in all_hosts()}
        record = {
            "index": next(number for number in range(2, 255) if number not in taken),
            "fqdn": fqdn or f"{host.name}.example.test",
        }
        host.folder.mkdir(parents=True)
        (host.folder / "host.json").write_text(json.dumps(record))
        if not Path("/run/netns", REALM).exists():
            make_network()


def make_network() -> None:
    """Makes the hosts' private network, a bridge with the router's address on it."""
    sh("ip", "netns", "add", REALM)
    # A router without routes: the world outside is unreachable at once. Where /proc/sys is read-only, only later.
    sh("ip", "netns", "exec", REALM, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward", check=False)
    sh("ip", "-n", REALM, "link", "set", "lo", "up")
    sh("ip", "-n", REALM, "link", "add", "lan", "type", "bridge")
    sh("ip", "-n", REALM, "address", "add", f"{SUBNET}.1/24", "dev", "lan")
    sh("ip", "-n", REALM, "link", "set", "lan", "up")
