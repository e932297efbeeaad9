"""A disposable host with the Debian package of this checkout installed in it, as seen from outside."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TOOL = str(ROOT / "packaging" / "host")
CHECKOUT = "/opt/state-agent"
"""Where `checkout` puts a copy of this checkout."""
BUILT = Path(os.environ.get("STATE_AGENT_HOST_CACHE", "/var/cache/state-agent-host"), "built")
"""Packages that were built, by what they were built from; kept for a day."""
SOURCES = (
    "agent",
    "docs",
    "packaging",
    "states",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "site.toml",
)
"""What the package is made from."""
APT = "DEBIAN_FRONTEND=noninteractive apt-get -q -y"
DAY = 86400

Done = subprocess.CompletedProcess[str]


def machine(*words: str, stdin: str | None = None, timeout: float = 300) -> Done:
    """Run a program of the machine to its end, whatever that is."""
    return subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)


def must(*words: str, timeout: float = 300) -> str:
    """What a program of the machine writes to stdout; fails with what it said."""
    done = machine(*words, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Alone among all sessions."""
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@cache
def package() -> Path:
    """The Debian package of this checkout; built when there is none yet of the same content."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "checkout")  # a copy, which nobody edits between its digest and the build
        (tree / "tests").mkdir(parents=True)  # needed in the source package alone
        for each in SOURCES:
            copy_of(ROOT / each, tree / each)
        place = BUILT / digest(tree)
        with locked("package"):
            if not place.is_dir():
                forget_old()
                must(str(tree / "packaging" / "build"), f"{folder}/built", timeout=900)
                shutil.copytree(f"{folder}/built", f"{place}.new", dirs_exist_ok=True)
                Path(f"{place}.new").rename(place)
    return next(place.glob("*.deb"))


def copy_of(source: Path, target: Path) -> None:
    """Copy a file or folder without what is made from the rest."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "bench", "dist", "reference"))
    else:
        shutil.copy(source, target)


def digest(tree: Path) -> str:
    """Of all files: names, contents, and whether they are programs."""
    found = hashlib.sha256()
    for path in sorted(tree.rglob("*")):
        if path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found.update(f"{path.relative_to(tree)} {os.access(path, os.X_OK)} {content}\n".encode())
    return found.hexdigest()[:16]


def forget_old() -> None:
    """Remove packages of yesterday's checkouts."""
    for path in BUILT.iterdir():
        if path.is_dir() and path.stat().st_mtime < time.time() - DAY:
            shutil.rmtree(path)


class Installed:
    """A host that the package was installed in."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._boot()
        self.address = self.tool("address", name)
        self.tool("copy", name, str(package()), "/root/state-agent.deb")
        self.install("/root/state-agent.deb")

    def _boot(self) -> None:
        """Boot a host that has all that the package needs: from a snapshot, which the first one leaves."""
        needs = must("dpkg-deb", "--field", str(package()), "Depends")
        label = f"libraries-{hashlib.sha256(needs.encode()).hexdigest()[:12]}"
        up = (TOOL, "up", self.name, "--owner", str(os.getpid()))
        with locked("libraries"):
            if machine(*up, "--from", label).returncode:
                must(*up)
                self.sh(f"{APT} update; {APT} --no-install-recommends satisfy '{needs}'")
                self.tool("snapshot", self.name, label)
        self.sh(f'[ -z "$(find /var/lib/apt/lists -maxdepth 0 -mtime +0)" ] || {APT} update')

    def checkout(self) -> None:
        """Copy this checkout to where it stands in the host."""
        parts = ("agent", "packaging", "states", "tests", "docs", "site.toml", "pyproject.toml", "README.md")
        self.tool("copy", self.name, *(str(ROOT / part) for part in parts), f"{CHECKOUT}/")

    def tool(self, *words: str) -> str:
        """A command of `packaging/host`; fails with what it said."""
        return must(TOOL, *words)

    def run(
        self, *command: str, user: str = "root", stdin: str | None = None, status: int | None = 0, timeout: float = 300
    ) -> Done:
        """Run a command inside; `status` is what it must end with, None for any."""
        words = ["run", self.name, "--user", user, *(["--input"] if stdin is not None else []), "--", *command]
        done = machine(TOOL, *words, stdin=stdin, timeout=timeout)
        assert status is None or done.returncode == status, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def out(self, *command: str, **more: Any) -> str:
        """What a command inside writes to stdout."""
        return self.run(*command, **more).stdout.strip()

    def sh(self, script: str, **more: Any) -> str:
        """What a script inside writes to stdout."""
        return self.out("sh", "-euc", script, **more)

    def read(self, path: str) -> str:
        """A file's content."""
        return self.run("cat", path).stdout

    def write(self, path: str, text: str) -> None:
        """Replace a file's content."""
        self.run("sh", "-ec", 'mkdir -p "$(dirname "$0")"; cat > "$0"', path, stdin=text)

    def install(self, *packages: str) -> None:
        """Install packages."""
        self.sh(f"{APT} --no-install-recommends install {' '.join(packages)}")

    def agent(self, *words: str, status: int | None = 0) -> Done:
        """Run `agent`."""
        return self.run("agent", *words, status=status)

    def outcomes(self, *words: str, status: int | None = 0) -> dict[str, str]:
        """By id, the outcome of everything that `agent apply` found or left other than in desired state."""
        done = self.agent("apply", "--json", *words, status=None)
        rows = json.loads(done.stdout)["resources"] if done.stdout else []
        errors = [f"{row['id']}: {row['error']}" for row in rows if row["error"]]
        assert status in (None, done.returncode), "\n".join([f"exit status {done.returncode}", *errors, done.stderr])
        return {row["id"]: row["outcome"] for row in rows if row["outcome"] != "in-desired-state"}

    def python(self, script: str, *arguments: str, stdin: str | None = None) -> str:
        """Run a script of Python in the hosts' network, outside of every host: as somebody in the world would."""
        done = machine(TOOL, "lan", "--", "/usr/bin/env", "python3", "-I", "-c", script, *arguments, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
