"""The Debian package says what pyproject.toml says: version, dependencies, and what is installed from the checkout."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import agent

ROOT = Path(__file__).parents[2]
DEBIAN = ROOT / "packaging" / "debian"
NAMES = {"python-gnupg": "python3-gnupg", "argon2-cffi": "python3-argon2"}
"""Those whose package in Debian is not called python3-NAME."""


def field(name: str) -> set[str]:
    text = re.split(rf"^{name}:", (DEBIAN / "control").read_text(), flags=re.MULTILINE)[1]
    return {line.strip().rstrip(",") for line in re.split(r"^\S", text, flags=re.MULTILINE)[0].splitlines()}


def test_version() -> None:
    first = (DEBIAN / "changelog").read_text().splitlines()[0]
    assert first.split()[1] == f"({agent.__version__})"


def test_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {tuple(each.split(">=")) for each in project["dependencies"]}
    packages = {NAMES.get(name, f"python3-{name}"): version for name, version in wanted}
    declared = {each for each in field("Depends") if each.startswith("python3-")}
    assert declared == {f"{name} (>= {version})" for name, version in packages.items()}
    assert set(packages) <= field("Build-Depends")
