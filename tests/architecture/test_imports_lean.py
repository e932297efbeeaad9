"""A check of an unchanged site imports nothing heavy: it runs every minute on a small machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {
    "asyncio", "email", "gnupg", "http", "jinja2", "multiprocessing", "psycopg", "pydantic", "pydantic_core", "rich",
    "secrets", "sh", "socketserver", "ssl", "subprocess", "toml", "tomllib", "unittest", "watchdog",
}  # fmt: skip


def imported(site: Path, state: Path, *words: str) -> set[str]:
    """The names of all modules that a run of the command imports."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "agent", *words, "--site", str(site), "--state-dir", str(state)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(re.findall(r"^import time: .*\| +(\S+)$", ended.stderr, re.MULTILINE))


@pytest.mark.parametrize("words", [["apply", "--check"], ["apply", "--check", "--json"], ["status"], ["apply"]])
def test_nothing_heavy_where_nothing_changed(tmp_path: Path, words: list[str]) -> None:
    site = tmp_path / "site.toml"
    site.write_text(
        f'[directory."{tmp_path}/d"]\n[file."{tmp_path}/d/a"]\ncontent = "a"\n[link."{tmp_path}/d/l"]\ntarget = "a"\n'
        f'[block."{tmp_path}/d/b#x"]\ncontent = "b"\n[command.c]\nrun = ["true"]\ncreates = "{tmp_path}/d"\n'
        f'[secrets.key]\ngenerate = 12\n[file."{tmp_path}/d/s"]\ncontent = "{{{{ secrets.key }}}}"\n'
    )
    first = imported(site, tmp_path / "state", "apply")
    assert {"pydantic", "jinja2"} <= first, "the test sees no imports"
    found = {name.partition(".")[0] for name in imported(site, tmp_path / "state", *words)}
    assert "agent" in found
    assert not found & HEAVY


def test_a_certificate_and_a_key_are_taken_apart_once(tmp_path: Path) -> None:
    site, key = tmp_path / "site.toml", tmp_path / "key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    site.write_text(
        f'[certificate.c]\nprovider = "selfsigned"\ndomains = ["a.example"]\ndirectory = "{tmp_path}/c"\n'
        f'[dns_record."k._domainkey.a.example TXT"]\ndkim_key = "{key}"\nserver = "127.0.0.1:1"\n'
    )
    first = imported(site, tmp_path / "state", "apply")
    assert "cryptography.x509" in first, "the test sees no imports"
    imported(site, tmp_path / "state", "apply", "--check")
    again = imported(site, tmp_path / "state", "apply", "--check")
    assert {"agent.host.tls.x509", "agent.host.dns.keys"} <= again
    assert not [name for name in again if name.startswith("cryptography")]
