"""Runs that are interrupted, and runs that meet: signals, the lock, readers that go away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from outside import kill, runs, start, wait_for
from sitefolder import SiteFolder

SLOW = """
[file."HOST/a"]
content = "a\\n"
[command.slow]
run = ["sh", "-c", "touch HOST/began; while test ! -e HOST/go; do sleep 0.05; done; touch HOST/done"]
creates = "HOST/done"
requires = ["file:HOST/a"]
[file."HOST/b"]
content = "b\\n"
requires = ["command:slow"]
[command.listens]
run = ["sh", "-c", "echo ran >> HOST/log"]
refresh_on = ["file:HOST/a"]
requires = ["file:HOST/b"]
"""


def in_the_middle(site: SiteFolder, *words: str) -> subprocess.Popen[str]:
    """An apply that is at its slow command."""
    site.write("site.toml", SLOW)
    process = start(site, "apply", *words)
    wait_for((site.host / "began").exists, "the slow command")
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_after_the_step_in_hand(site: SiteFolder, number: signal.Signals) -> None:
    process = in_the_middle(site, "--json")
    process.send_signal(number)
    (site.host / "go").touch()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "stopping after the step in hand" in err
    rows = {row["id"].rpartition("/")[2]: row["outcome"] for row in json.loads(out)["resources"]}
    assert rows == {"a": "added", "command:slow": "changed", "b": "skipped", "command:listens": "skipped"}
    assert (site.host / "done").exists()
    assert not (site.host / "b").exists()
    assert runs(site)[0]["outcome"] == "interrupted"
    assert site.run("apply", "--check").code == 2
    assert site.run("apply").code == 0
    assert (site.host / "b").exists()
    assert (site.host / "log").read_text() == "ran\n"
    assert site.run("apply", "--check").code == 0


def test_text_says_what_was_left_undone(site: SiteFolder) -> None:
    process = in_the_middle(site)
    process.send_signal(signal.SIGINT)
    (site.host / "go").touch()
    out, _ = process.communicate(timeout=30)
    assert f". file:{site.host}/b" in out
    assert "interrupted: 2 left undone" in out
    assert "2 skipped" in out


def test_a_signal_while_reading(site: SiteFolder) -> None:
    site.write(
        "site.toml",
        '[command.slow-guard]\nrun = ["touch", "HOST/x"]\n'
        'unless = ["sh", "-c", "touch HOST/began; sleep 1; false"]\n'
        '[file."HOST/a"]\ncontent = "a"\n',
    )
    process = start(site, "apply", "--json")
    wait_for((site.host / "began").exists, "the guard")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert {row["outcome"] for row in json.loads(out)["resources"]} == {"skipped"}
    assert [path.name for path in site.host.iterdir()] == ["began"]


def test_a_second_apply_is_told_who_holds_the_lock(site: SiteFolder) -> None:
    process = in_the_middle(site)
    second = site.run("apply")
    assert second.code == 1
    assert f"pid {process.pid}" in second.err
    assert "agent apply" in second.err
    assert site.run("apply", "--json").json["error"]["summary"].startswith("another run holds the lock")
    assert site.run("apply", "--check").code == 2  # takes no lock
    assert site.run("log").code == 0
    assert site.run("status").code == 2
    (site.host / "go").touch()
    assert process.wait(30) == 0
    assert site.run("apply").code == 0
    process.communicate()


def test_wait_waits(site: SiteFolder) -> None:
    first = in_the_middle(site)
    second = start(site, "apply", "--wait", "--json")
    interrupted = start(site, "apply", "--wait")
    assert interrupted.stderr is not None
    assert f"pid {first.pid}" in interrupted.stderr.readline()
    interrupted.send_signal(signal.SIGINT)
    assert "interrupted while waiting" in interrupted.communicate(timeout=10)[1]
    assert interrupted.returncode == 1
    assert second.poll() is None
    (site.host / "go").touch()
    assert first.wait(30) == 0
    out, _ = second.communicate(timeout=30)
    assert second.returncode == 0
    assert json.loads(out)["summary"] == {"in-desired-state": 4}
    first.communicate()


def test_a_killed_run_frees_the_lock(site: SiteFolder) -> None:
    kill(in_the_middle(site))
    (site.host / "go").touch()
    assert site.run("apply").code == 0
    assert site.run("log", "1").out.split()[3:5] == ["cut", "off"]


def test_a_reader_that_goes_away_stops_no_run(site: SiteFolder) -> None:
    process = in_the_middle(site)
    assert process.stdout is not None
    process.stdout.close()
    (site.host / "go").touch()
    process.wait(30)
    assert (site.host / "log").read_text() == "ran\n"
    assert runs(site)[0]["outcome"] == "converged"
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_full_disk_behind_stdout_stops_no_run(site: SiteFolder) -> None:
    site.write("site.toml", '[file."HOST/a"]\ncontent = "a"\n[file."HOST/b"]\ncontent = "b"\n')
    with Path("/dev/full").open("w") as full:
        process = start(site, "apply", stdout=full)
        _, err = process.communicate(timeout=30)
    assert "Traceback" not in err
    assert sorted(os.listdir(site.host)) == ["a", "b"]


@pytest.mark.parametrize("words", [["show"], ["apply", "--check"], ["graph"], ["docs", "file"], ["log"], ["status"]])
def test_a_broken_pipe_is_silent(site: SiteFolder, words: list[str]) -> None:
    site.write("site.toml", "".join(f'[file."HOST/{n}"]\ncontent = "{"x" * 200}"\n' for n in range(400)))
    process = start(site, *words)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.wait(30)
    process.stderr.close()
