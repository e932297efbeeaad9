"""Facts: read-only knowledge of the host that declarations may use as `facts.NAME`.

Only facts that hold from one boot to the next belong here: which of them a site used is part of what its compiled
form is keyed by.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_DEBIAN_ARCHITECTURES = {
    "x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf", "armv6l": "armhf", "i686": "i386", "ppc64le": "ppc64el",
}  # fmt: skip
_HALF_AS_WIDE = {"amd64": "i386", "arm64": "armhf"}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _os_release(key: str) -> str:
    for line in _lines("/etc/os-release"):
        if line.startswith(f"{key}="):
            return line.partition("=")[2].strip("\"'")
    return ""


def _fqdn() -> str:
    """The host's full name from /etc/hosts, without asking a resolver, which may take many seconds."""
    short = os.uname().nodename
    if "." in short:
        return short
    for line in _lines("/etc/hosts"):
        names = line.partition("#")[0].split()[1:]
        if short in names:
            return next((name for name in names if name.startswith(f"{short}.")), short)
    return short


def _architecture() -> str:
    """Debian's name of the architecture that programs are built for: Raspberry Pi OS has 32 bits on a 64 bit kernel."""
    name = _DEBIAN_ARCHITECTURES.get(os.uname().machine, os.uname().machine)
    return _HALF_AS_WIDE.get(name, name) if sys.maxsize < 2**32 else name


def _memory_mb() -> int:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return 0


def _cpu_has_aes() -> bool:
    return any(
        "aes" in line.split() for line in _lines("/proc/cpuinfo") if line.lower().startswith(("flags", "features"))
    )


FACTS: dict[str, tuple[str, Callable[[], Any]]] = {
    "hostname": ("The host's short name", lambda: os.uname().nodename.partition(".")[0]),
    "fqdn": ("The host's full name, as /etc/hosts gives it", _fqdn),
    "os_id": ('The distribution: "debian", "raspbian"', lambda: _os_release("ID")),
    "os_version": ('The release\'s number, such as "13"', lambda: _os_release("VERSION_ID")),
    "os_codename": ('The release\'s name, such as "trixie"', lambda: _os_release("VERSION_CODENAME")),
    "arch": ('Debian\'s name of the architecture, such as "arm64"', _architecture),
    "kernel": ("The kernel's release", lambda: os.uname().release),
    "cpus": ("How many processors there are", lambda: os.cpu_count() or 1),
    "cpu_has_aes": ("Whether the processor has AES instructions", _cpu_has_aes),
    "memory_mb": ("Memory in MiB", _memory_mb),
    "model": (
        'The board\'s name, such as "Raspberry Pi 5"; empty elsewhere',
        lambda: "".join(_lines("/proc/device-tree/model")[:1]).rstrip("\0"),
    ),
}


class Facts:
    """The facts of this host; each is read when first asked for, and `used` remembers which were."""

    def __init__(self) -> None:
        self.used: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name not in FACTS:
            raise AttributeError(name)
        if name not in self.used:
            self.used[name] = FACTS[name][1]()
        return self.used[name]
