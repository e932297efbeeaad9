"""The process that holds a host: it mounts the disk, serves packages, and boots the host until it is told to stop."""

import contextlib
import os
import select
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from disposable.base import use_proxy_of_apt
from disposable.host import Host, cgroups, clear_cgroups, remove
from disposable.machine import BASES, CONTAINED, PROGRAM, REALM, SUBNET, say, sh
from disposable.proxy import serve_packages


def start_keeper(host: Host, base: Path, owner: int | None) -> None:
    """Starts the keeper of a registered host in a mount namespace of its own, and waits until it has begun."""
    command = ["unshare", "--mount", "--propagation", "slave", *PROGRAM, "_keep", host.name, str(base)]
    command += [str(owner)] if owner else []
    with (host.folder / "console.log").open("w") as console:
        keeper = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, cwd="/", start_new_session=True
        )
    while not host.keeper() and keeper.poll() is None:
        select.select([], [], [], 0.01)


def keep(host: Host, base: Path, owner: int | None) -> None:
    """Boots the host, and again after each reboot; removes it when its owner ends."""
    (host.folder / "keeper").write_text(str(os.getpid()))
    with contextlib.suppress(ProcessLookupError):
        owners = [os.pidfd_open(owner)] if owner else []
        mount_disk(host, base)
        configure(host)
        use_proxy_of_apt()
        serve_packages(f"{SUBNET}.1", proxy_port(host))
        while boot_once(host, owners):
            take_snapshot(host)
    if owner:
        remove(host)


def proxy_port(host: Host) -> int:
    return 3000 + host.index


def mount_disk(host: Host, base: Path) -> None:
    """Lays a writable overlay over the base; where that is not possible, copies the base."""
    for folder in ("root", "upper", "work"):
        (host.folder / folder).mkdir()
    layers = f"lowerdir={base},upperdir={host.folder}/upper,workdir={host.folder}/work"
    # redirect_dir and index: directories can be renamed and hard links hold, as on a disk.
    # volatile: fsync costs nothing, for the disk need not outlive the machine.
    options = f"{layers},redirect_dir=on,index=on,volatile"
    mount = subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", str(host.root)], check=False)
    if mount.returncode:
        say("no overlay is possible here, copying the base system")
        sh("cp", "-a", f"{base}/.", str(host.root))


def configure(host: Host) -> None:
    """Gives a fresh disk its name, its way to packages, and an identity still to be made (machine-id(5))."""
    names = f"{host.address} {host.record()['fqdn']} {host.name}"
    content = {
        "etc/hostname": f"{host.name}\n",
        "etc/hosts": f"127.0.0.1 localhost\n{names}\n::1 localhost ip6-localhost ip6-loopback\n",
        "etc/machine-id": "",  # not missing, which would be a first boot with all its presets
        "etc/resolv.conf": "",
        "etc/apt/apt.conf.d/90proxy": f'Acquire::http::Proxy "http://{SUBNET}.1:{proxy_port(host)}";\n',
    }
    for path, text in content.items():
        (host.root / path).unlink(missing_ok=True)
        (host.root / path).write_text(text)
    (host.root / "var/lib/dbus/machine-id").unlink(missing_ok=True)
    fuse = host.folder / "fuse"
    os.mknod(fuse, stat.S_IFCHR, os.makedev(10, 229))
    fuse.chmod(0o666)


def boot_once(host: Host, owners: Sequence[int]) -> bool:
    """Boots and waits for the end; true if the host is to come up again."""
    clear_cgroups(host)
    # Every boot has a network namespace of its own: a reboot forgets addresses and firewall rules.
    child = subprocess.Popen([*CONTAINED, "--net", *PROGRAM, "_boot", host.name])
    ended = os.pidfd_open(child.pid)
    ready, _, _ = select.select([ended, *owners], [], [])
    os.close(ended)
    if ended not in ready:
        child.kill()
        child.wait()
        return False
    # systemd-nspawn: 0 after poweroff, 133 after reboot, others after a power cut. What never came up stays down.
    return child.wait() != 0 and (host.folder / "booted").exists()


def boot(host: Host) -> NoReturn:
    """Inside the namespaces of a new boot: makes the network and becomes systemd-nspawn."""
    for group in cgroups(host):
        group.mkdir()
        (group / "cgroup.procs").write_text("0")
    sh("ip", "-n", REALM, "link", "delete", host.port, check=False)
    # The same hardware address at every boot, as a card has it: the other hosts remember it for a while.
    card = f"02:00:00:00:00:{host.index:02x}"
    sh("ip", "link", "add", "eth0", "address", card, "type", "veth", "peer", "name", host.port, "netns", REALM)
    sh("ip", "-n", REALM, "link", "set", host.port, "master", "lan", "up")
    sh("ip", "address", "add", f"{host.address}/24", "dev", "eth0")
    sh("ip", "link", "set", "lo", "up")
    sh("ip", "link", "set", "eth0", "up")
    sh("ip", "route", "add", "default", "via", f"{SUBNET}.1")
    # nspawn leaves locks and mount points in /run; these go with the namespace.
    sh("mount", "-t", "tmpfs", "tmpfs", "/run")
    os.environ["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"
    untouched = "--settings=no", "--timezone=off", "--resolv-conf=off", "--link-journal=no"
    unmanaged = "--register=no", "--keep-unit", "--quiet", "--console=read-only"
    network = "--network-namespace-path=/proc/self/ns/net", "--capability=all"
    disk = f"--directory={host.root}", f"--machine={host.name}", f"--bind={host.folder}/fuse:/dev/fuse"
    os.execvp("systemd-nspawn", ["systemd-nspawn", *untouched, *unmanaged, *network, *disk, "--boot"])


def take_snapshot(host: Host) -> None:
    """Between two boots: copies the disk if a snapshot was asked for."""
    wish = host.folder / "snapshot"
    if wish.exists():
        copy = host.folder / "copy"
        sh("cp", "-a", str(host.root), str(copy))
        copy.rename(BASES / wish.read_text())
        wish.unlink()
