"""A rollback on a host: packages, accounts, units and rules go back as well."""

from __future__ import annotations

import json
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.inside
ROOT = Path(__file__).parents[2]
SITE = """
[apt.hello]
[group.sa-back]
[user.sa-back]
comment = "COMMENT"
[file."/etc/sa-back"]
content = "COMMENT"
owner = "sa-back"
[file."/etc/systemd/system/sa-back.service"]
content = "[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n"
[service.sa-back]
restart_on = ["file:/etc/sa-back"]
[iptables.sa-back]
chain = "INPUT"
rules = ["-p tcp --dport PORT -j ACCEPT"]
"""
IDS = {
    "apt:hello", "group:sa-back", "user:sa-back", "file:/etc/sa-back", "file:/etc/systemd/system/sa-back.service",
    "service:sa-back", "iptables:sa-back",
}  # fmt: skip


def said(*words: str) -> str:
    """What a program says, however it ends."""
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """Runs `agent` on the site; gives its JSON."""

    def run(*words: str, code: int) -> dict[str, Any]:
        command = [sys.executable, "-m", "agent", *words, "--json", "--site", str(tmp_path / "site.toml")]
        done = subprocess.run(
            [*command, "--state-dir", str(tmp_path / "state")], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    yield run
    said("systemctl", "disable", "--now", "sa-back")
    said("rm", "-f", "/etc/systemd/system/sa-back.service", "/etc/sa-back")
    said("userdel", "-r", "sa-back")
    for program in ("iptables", "ip6tables"):
        said(program, "-F")
        said(program, "-X")
    said("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "purge", "hello")


def outcomes(document: dict[str, Any]) -> dict[str, str]:
    """By id, what became of it."""
    return {row["id"]: row["outcome"] for row in document["resources"]}


def test_a_whole_service_comes_and_goes(agent: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(SITE.replace("COMMENT", "one").replace("PORT", "4711"))
    agent("apply", code=0)
    started = said("systemctl", "show", "--value", "-p", "InvocationID", "sa-back")
    (tmp_path / "site.toml").write_text(SITE.replace("COMMENT", "two").replace("PORT", "4712"))
    agent("apply", code=0)
    restarted = said("systemctl", "show", "--value", "-p", "InvocationID", "sa-back")
    assert restarted != started

    done = agent("rollback", "2", "--yes", code=0)
    assert outcomes(done) == {
        "iptables:sa-back": "changed", "file:/etc/sa-back": "changed", "user:sa-back": "changed",
        "service:sa-back": "refreshed",
    }  # fmt: skip
    assert pwd.getpwnam("sa-back").pw_gecos == "one"
    assert Path("/etc/sa-back").read_text() == "one"
    rules = said("iptables-save", "-t", "filter")
    assert "--dport 4711" in rules
    assert "--dport 4712" not in rules
    assert said("systemctl", "show", "--value", "-p", "InvocationID", "sa-back") not in (started, restarted, "")

    shown = agent("rollback", "1", "--check", code=2)
    assert {row["id"] for row in shown["resources"] if row["outcome"] == "would-remove"} >= IDS - {"service:sa-back"}
    agent("rollback", "1", "--yes", code=0)
    assert said("systemctl", "is-active", "sa-back") == "inactive"
    assert said("id", "sa-back") == ""
    assert not Path("/etc/sa-back").exists()
    assert "471" not in said("iptables-save", "-t", "filter")
    assert "ok installed" not in said("dpkg-query", "-W", "-f", "${Status}", "hello")

    # And forth: the rollback was a run of its own.
    agent("rollback", "4", "--yes", code=0)
    assert said("systemctl", "is-active", "sa-back") == "active"
    assert Path("/etc/sa-back").owner() == "sa-back"
    assert "--dport 4711" in said("iptables-save", "-t", "filter")
    assert "ok installed" in said("dpkg-query", "-W", "-f", "${Status}", "hello")
