"""Odd places to be started from: closed or full streams, a folder that is gone, an interrupt at the first instant."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from outside import command, environ
from sitefolder import ROOT, SiteFolder

from agent.cli import common
from agent.errors import UsageError


def shell(site: SiteFolder, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command by a line of shell, in which it is `"$@"`."""
    return subprocess.run(
        ["sh", "-c", script, "sh", *command(site, *words)],
        env=environ(site), cwd=site.path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(site: SiteFolder, closed: str) -> None:
    """A stream that is closed would be the next file that is opened: what a command prints would go there."""
    site.write(
        "site.toml",
        '[file."HOST/a"]\ncontent = "a"\n[command.prints]\ncreates = "HOST/b"\n'
        'run = ["sh", "-c", "echo printed; echo warned >&2; touch HOST/b"]\n',
    )
    ended = shell(site, f'"$@" {closed}', "apply")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (site.host / "a").read_text() == "a"
    assert not [path for path in site.state.rglob("*") if path.is_file() and b"warned\n" in path.read_bytes()]
    assert shell(site, f'"$@" {closed}', "apply", "--check").returncode == 0
    assert len(json.loads(site.run("log", "--json").out)["runs"]) == 1


@pytest.mark.parametrize(
    ("words", "script", "status"),
    [
        (["show", "--json"], '"$@" > /dev/full', 1),
        (["apply", "--check", "--json"], '"$@" > /dev/full', 1),
        (["apply", "--json", "--nope"], '"$@" > /dev/full', 3),
        (["show", "--nope"], '"$@" 2> /dev/full', 3),
        (["show", "file:/nowhere"], '"$@" 2> /dev/full', 3),
    ],
)
def test_full_streams(site: SiteFolder, words: list[str], script: str, status: int) -> None:
    site.write("site.toml", '[file."HOST/a"]\ncontent = "a"\n')
    ended = shell(site, script, *words)
    assert ended.returncode == status
    assert "Traceback" not in ended.stderr
    assert "internal error" not in ended.stderr


def test_a_current_folder_that_is_gone(site: SiteFolder) -> None:
    site.write("site.toml", '[file."HOST/a"]\ncontent = "a"\n')
    gone = 'mkdir gone && cd gone && rmdir ../gone && "$@"'
    assert shell(site, gone, "apply").returncode == 0
    assert (site.host / "a").exists()
    ended = subprocess.run(
        ["sh", "-c", gone, "sh", sys.executable, "-m", "agent", "show", "--site", "../site.toml"],
        env=environ(site), cwd=site.path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 3
    assert "there is no site file ../site.toml" in ended.stderr


def test_the_way_to_a_first_site(site: SiteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "_DEFAULT_SITE", site.path / "none.toml")
    monkeypatch.chdir(site.path)
    with pytest.raises(UsageError) as none:
        _ = common.Common().site_path
    assert "`agent init` writes one" in none.value.hint


def test_a_state_folder_with_too_long_a_name(site: SiteFolder) -> None:
    site.write("site.toml", "")
    result = site.run("log", "--json", "--state-dir", "x" * 300)
    assert result.code == 1
    assert "File name too long" in result.json["error"]["summary"]


@pytest.mark.parametrize("start", [["-m", "agent"], [str(ROOT / "packaging/launcher")]])
def test_an_interrupt_while_it_starts(site: SiteFolder, start: list[str]) -> None:
    """It is made to come by a module that takes the place of one which the command imports first."""
    site.write("odd/click/__init__.py", "raise KeyboardInterrupt\n")
    ended = subprocess.run(
        [sys.executable, *start], cwd=site.path, capture_output=True, text=True, timeout=60, check=False,
        env={**environ(site), "PYTHONPATH": f"{site.path}/odd:{ROOT}"},
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (1, "aborted\n")
