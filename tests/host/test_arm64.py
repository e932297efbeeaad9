"""The package on an arm64 Debian 13, as on a Raspberry Pi: every program of it run by qemu, in a disposable host.

The host has a binfmt_misc of its own for it, in a user namespace (Linux 6.7), so the machine's is left alone. Where
the kernel has none this is skipped, which fails no run. Debian for arm64 takes some minutes to make, and is kept.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator

import pytest
from installed import ROOT, TOOL, Installed, machine, package

HANDLER = (
    r":aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64:OCF"
)
WORDS = (
    *("unshare", "--user", "--mount", "--pid", "--fork", "--mount-proc", "--setuid", "0", "--setgid", "0"),
    *("--map-users=0:0:65536", "--map-groups=0:0:65536", f"--load-interp={HANDLER}"),
)
LIBRARIES = re.findall(r"^ (python3-[a-z0-9]+) \(", (ROOT / "packaging/debian/control").read_text(), re.MULTILINE)
BASE = "arm64-" + hashlib.sha256(" ".join(LIBRARIES).encode()).hexdigest()[:12]
MAKE = """export http_proxy=$(apt-config dump | sed -n 's/^Acquire::http::Proxy "\\(.*\\)";/\\1/p')
exec "$@" mmdebstrap --mode=root --architectures=arm64 --variant=apt --skip=check/qemu,output/mknod,check/empty \
    --include="$0" trixie /arm64 /etc/apt/sources.list.d/*.sources 2>&1"""
SITE = """[site]
states = ["mailname"]
[values]
domain = "example.net"
[file."/etc/motd"]
content = "on {{ facts.arch }}\\n"
"""


class Arm(Installed):
    """A host with an arm64 Debian 13 in /arm64."""

    def __init__(self, name: str) -> None:
        self.name = name
        owner = ("--owner", str(os.getpid()))
        if machine(TOOL, "up", name, *owner, "--from", BASE).returncode:
            self.tool("up", name, *owner)
            self.sh("apt-get -q update")
            self.install("qemu-user", "mmdebstrap", "arch-test")
            if (probe := self.run(*WORDS, "true", status=None)).returncode:
                pytest.skip(f"no binfmt_misc for a namespace here: {probe.stderr.strip()}")
            done = self.run("sh", "-c", MAKE, ",".join(LIBRARIES), *WORDS, status=None, timeout=1500)
            assert done.returncode == 0, done.stdout[-3000:]
            self.tool("snapshot", name, BASE)
        self.sh("mount --rbind /dev /arm64/dev")

    def arm(self, *command: str, status: int = 0) -> str:
        """What an arm64 program writes to stdout."""
        environ = ("env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive")
        return self.run(*WORDS, "--root=/arm64", "--wd=/", *environ, *command, status=status).stdout


@pytest.fixture(scope="module")
def arm() -> Iterator[Arm]:
    if os.geteuid():
        pytest.skip("needs root")
    name = f"arm-{os.getpid()}"
    try:
        yield Arm(name)
    finally:
        machine(TOOL, "down", name)


def test_installed_and_a_small_site_applied(arm: Arm) -> None:
    arm.tool("copy", arm.name, str(package()), "/arm64/root/state-agent.deb")
    arm.arm("dpkg", "--install", "/root/state-agent.deb")
    assert arm.arm("dpkg", "--print-architecture") == "arm64\n"
    arm.arm("agent", "init", "--domain", "example.net")
    arm.arm("agent", "validate")
    arm.write("/arm64/etc/state-agent/site.toml", SITE)
    arm.arm("agent", "apply", "--check", status=2)
    arm.arm("agent", "apply")
    arm.arm("agent", "apply", "--check")
    assert arm.read("/arm64/etc/mailname") == "example.net\n"
    assert arm.read("/arm64/etc/motd") == "on arm64\n"
