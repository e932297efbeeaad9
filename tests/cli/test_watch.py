"""`agent watch` from outside: it answers status, apply goes on beside it, signals end it or have it read again."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from outside import command, environ, start, wait_for
from sitefolder import SiteFolder

SITE = '[file."HOST/a"]\ncontent = "a\\n"\n[file."HOST/b"]\ncontent = "b\\n"\n'


@pytest.fixture
def watched(site: SiteFolder) -> Iterator[tuple[SiteFolder, int]]:
    """A site under watch, and the number of the process."""
    site.write("site.toml", SITE)
    process = start(site, "watch")
    wait_for(lambda: live(site).get("last_full_check", 0) > 0, "the agent at work")
    yield site, process.pid
    process.terminate()
    assert process.wait(30) == 0


def live(site: SiteFolder) -> dict[str, object]:
    found: dict[str, object] = json.loads(site.run("status", "--json").out)
    return found


def test_status_is_answered_by_it(watched: tuple[SiteFolder, int]) -> None:
    site, _ = watched
    (site.host / "a").write_text("x")
    wait_for(lambda: (site.host / "a").read_text() == "a\n", "the agent at work")
    wait_for(lambda: live(site)["rounds"] == 2, "the agent at work")
    rows = {row["id"].rpartition("/")[2]: row for row in live(site)["resources"]}  # type: ignore[attr-defined]
    assert rows["a"]["repairs"] == 1 and rows["a"]["last_drift"] > 0 and rows["b"]["repairs"] == 0
    assert {row["outcome"] for row in rows.values()} == {"in-desired-state"}
    shown = site.run("status")
    assert shown.code == 0 and "repaired once" in shown.out and "watched since" in shown.out
    assert stat.S_IMODE((site.state / "run/agent.sock").stat().st_mode) == 0o600


def test_the_quick_answers_tell_of_a_full_stdout(watched: tuple[SiteFolder, int]) -> None:
    site, _ = watched
    version = [sys.executable, "-m", "agent", "--version"]
    for words in (command(site, "status"), command(site, "status", "--json"), version):
        with open("/dev/full", "w") as full:
            ended = subprocess.run(
                words, env=environ(site), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
            )
        assert ended.returncode == 1
        assert "Traceback" not in ended.stderr and "internal error" not in ended.stderr


def test_apply_goes_on_beside_it_and_a_second_one_does_not(watched: tuple[SiteFolder, int]) -> None:
    site, _ = watched
    for number in range(4):
        site.write("site.toml", SITE.replace('"b\\n"', f'"{number}\\n"'))
        done = site.run("apply")
        assert done.code == 0, done.text
        for _ in range(20):
            assert (site.host / "b").read_text() == f"{number}\n", "the agent put the old site back"
            time.sleep(0.01)
    wait_for(lambda: (site.host / "b").read_text() == "3\n", "the agent at work")
    second = site.run("watch")
    assert second.code == 1 and "another" in second.err


def test_a_site_that_is_gone_is_told_by_who_goes_on_with_it(watched: tuple[SiteFolder, int]) -> None:
    site, _ = watched
    there = site.path / "site.toml"
    there.rename(site.path / "away.toml")
    words = ("status", "--site", str(there))
    wait_for(lambda: "site.toml: cannot be read" in site.run(*words).out, "what is wrong with the site")
    (site.host / "a").write_text("x")
    wait_for(lambda: (site.host / "a").read_text() == "a\n", "the agent at work")
    told = site.run(*words, "--json")
    assert told.code == 3 and not told.json["converged"] and "cannot be read" in told.json["site_error"]
    (site.path / "away.toml").rename(there)
    wait_for(lambda: "the site is wrong" not in site.run(*words).out, "the end of that")
    assert site.run(*words).code == 0


def test_sighup_reads_again(watched: tuple[SiteFolder, int]) -> None:
    site, pid = watched
    rounds = live(site)["rounds"]
    os.kill(pid, signal.SIGHUP)
    wait_for(lambda: live(site)["rounds"] != rounds, "the agent at work")


def test_without_it_status_looks_for_itself(site: SiteFolder) -> None:
    site.write("site.toml", SITE)
    assert site.run("apply").code == 0
    assert "rounds" not in live(site)


def test_a_service_with_a_wrong_site_waits_until_it_is_right(site: SiteFolder) -> None:
    site.write("site.toml", SITE + "[nonsense")
    assert site.run("watch").code == 3
    site.environ["NOTIFY_SOCKET"] = "/nonexistent"
    process = start(site, "watch")
    assert process.stderr is not None
    assert "nothing is done until it is right" in process.stderr.readline()
    assert not (site.host / "a").exists()
    site.write("site.toml", SITE)
    wait_for((site.host / "a").exists, "the agent at work")
    process.terminate()
    assert process.wait(30) == 0


def test_metrics_in_a_file_and_on_the_loopback(site: SiteFolder) -> None:
    site.write("site.toml", SITE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = site.state / "agent.prom"
    process = start(site, "watch", "--metrics-file", str(page), "--metrics-port", str(port))
    try:
        wait_for(page.exists, "a page of metrics")
        (site.host / "a").write_text("damage")
        wait_for(lambda: metrics(page)["state_agent_repairs_total"] == 1, "the repair in the metrics")
        found = metrics(page)
        outcomes = {name: value for name, value in found.items() if name.startswith("state_agent_resources{")}
        assert outcomes['state_agent_resources{outcome="in-desired-state"}'] == sum(outcomes.values()) == 2
        assert found["state_agent_drifted"] == 1
        assert abs(found["state_agent_last_full_check_seconds"] - time.time()) < 60
        assert found["state_agent_round_seconds_count"] == live(site)["rounds"]
        assert 0 < found["state_agent_round_seconds_sum"] < 60
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert answer.read() == page.read_bytes()
        taken = site.run("watch", "--metrics-port", str(port), "--state-dir", str(site.state / "other"))
        assert taken.code == 1 and f"127.0.0.1:{port}" in taken.err
    finally:
        process.terminate()
        assert process.wait(30) == 0


def metrics(page: Path) -> dict[str, float]:
    """Each sample of a page in Prometheus' text format, by its name with labels."""
    lines = [line for line in page.read_text().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_that_cannot_be_written_stop_nobody(site: SiteFolder) -> None:
    site.write("site.toml", SITE)
    page = site.host / "later/agent.prom"
    process = start(site, "watch", "--metrics-file", str(page))
    try:
        wait_for(lambda: live(site).get("rounds", 0) == 1, "the agent at work")
        page.parent.mkdir()
        (site.host / "a").write_text("damage")
        wait_for(page.exists, "the metrics, once they can be written")
        assert (site.host / "a").read_text() == "a\n"
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert process.stderr is not None
    assert process.stderr.read().count(f"the metrics cannot be written to {page}: No such file or directory") == 1
