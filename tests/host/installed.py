"""A disposable host with state-agent installed in it, as seen from outside."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TOOL = str(ROOT / "packaging" / "host")
CHECKOUT = "/opt/state-agent"
"""Where a host has its copy of this checkout."""

Done = subprocess.CompletedProcess[str]


def machine(*words: str, stdin: str | None = None, timeout: float = 300) -> Done:
    """Run a program of the machine to its end, whatever that is."""
    return subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)


class Installed:
    """A host that state-agent was installed in by `packaging/install`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tool("up", name, "--owner", str(os.getpid()))
        self.address = self.tool("address", name)
        parts = ("agent", "packaging", "states", "tests", "docs", "site.toml", "pyproject.toml", "README.md")
        self.tool("copy", name, *(str(ROOT / part) for part in parts), f"{CHECKOUT}/")
        self.installation = self.run(f"{CHECKOUT}/packaging/install", "--minimal").stdout

    def tool(self, *words: str) -> str:
        """A command of `packaging/host`; fails with what it said."""
        done = machine(TOOL, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

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
        """Install packages for the tests' own use."""
        self.sh(
            f"export DEBIAN_FRONTEND=noninteractive; apt-get -q -y --no-install-recommends install {' '.join(packages)}"
        )

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
