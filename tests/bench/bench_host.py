"""A disposable host that benchmarks run on, and the package of this checkout in it."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOST = [str(ROOT / "packaging/host")]


def inside(name: str, *command: str) -> None:
    """Run a command in the host."""
    subprocess.run([*HOST, "run", name, "--", *command], check=True)


def install(name: str, *packages: str) -> None:
    """Build the package and install it, together with some of Debian's."""
    with tempfile.TemporaryDirectory() as folder:
        built = subprocess.run([ROOT / "packaging/build", folder], check=True, capture_output=True, text=True)
        subprocess.run([*HOST, "copy", name, built.stdout.strip(), "/root/state-agent.deb"], check=True)
    apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    inside(name, *apt, "update")
    inside(name, *apt, "install", "--no-install-recommends", "/root/state-agent.deb", *packages)
