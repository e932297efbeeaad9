"""Refreshes: once per run, never lost, never twice, in a chain."""

from __future__ import annotations

from pathlib import Path

import pytest
from outside import runs
from sitefolder import SiteFolder

LISTENER = """
[file."HOST/a"]
content = "{a}\\n"
[file."HOST/b"]
content = "{b}\\n"
[command.listens]
run = ["sh", "-c", "echo ran >> HOST/log; test ! -e HOST/refuse"]
refresh_on = ["file:HOST/a", "file:HOST/b"]
"""
# In between it kills the run that started it: the command is in a session of its own, its parent is the agent.
KILLER = """
[file."HOST/a"]
content = "{a}\\n"
[command.killer]
run = ["sh", "-c", "test -e HOST/spare || kill -9 $PPID"]
unless = ["test", "-e", "HOST/spare"]
requires = ["file:HOST/a"]
[command.listens]
run = ["sh", "-c", "echo ran >> HOST/log"]
refresh_on = ["file:HOST/a"]
requires = ["command:killer"]
"""


def log(site: SiteFolder) -> int:
    """How often the listener ran."""
    path = site.host / "log"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_runs_once_for_several_causes(site: SiteFolder) -> None:
    site.write("site.toml", LISTENER.format(a=1, b=1))
    first = site.run("apply", "--json")
    row = first.resource("command:listens")
    assert (row["outcome"], row["cause"]) == ("refreshed", "refresh")
    assert row["refresh"]["causes"] == [f"file:{site.host}/a", f"file:{site.host}/b"]
    assert log(site) == 1
    assert site.run("apply", "--json").json["summary"] == {"in-desired-state": 3}
    assert log(site) == 1
    (site.host / "b").write_text("drifted\n")
    assert site.run("apply").code == 0
    assert log(site) == 2


def test_survives_its_own_failure(site: SiteFolder) -> None:
    site.write("site.toml", LISTENER.format(a=1, b=1))
    (site.host / "refuse").touch()
    failed = site.run("apply", "--json")
    assert failed.code == 1
    assert failed.resource("command:listens")["outcome"] == "failed"
    assert log(site) == 1
    checked = site.run("apply", "--check", "--json")
    assert checked.code == 2
    assert checked.resource("command:listens")["outcome"] == "would-refresh"
    assert checked.resource("command:listens")["refresh"]["causes"] == [f"file:{site.host}/a", f"file:{site.host}/b"]
    assert "> command:listens" in site.run("apply", "--check").out
    assert site.run("apply").code == 1
    (site.host / "refuse").unlink()
    assert site.run("apply").code == 0
    assert log(site) == 3
    assert site.run("apply").code == 0
    assert log(site) == 3


def test_survives_a_kill_between_the_change_and_the_refresh(site: SiteFolder) -> None:
    site.write("site.toml", KILLER.format(a=1))
    assert site.run("apply").code == -9
    assert (site.host / "a").read_text() == "1\n"
    assert log(site) == 0
    checked = site.run("apply", "--check", "--json")
    assert checked.resource(f"file:{site.host}/a")["outcome"] == "in-desired-state"
    assert checked.resource("command:listens")["outcome"] == "would-refresh"
    (site.host / "spare").touch()
    again = site.run("apply", "--json")
    assert again.code == 0
    assert again.json["summary"] == {"in-desired-state": 2, "refreshed": 1}
    assert log(site) == 1
    assert [run["outcome"] for run in runs(site)] == ["converged", "cut off"]
    assert site.run("apply").code == 0
    assert log(site) == 1


def test_a_failure_of_the_cause_owes_nothing(site: SiteFolder) -> None:
    site.write("site.toml", LISTENER.format(a=1, b=1))
    assert site.run("apply").code == 0
    (site.host / "a").unlink()
    (site.host / "a").mkdir()
    result = site.run("apply", "--json")
    assert result.code == 1
    assert result.resource("command:listens")["outcome"] == "blocked"
    (site.host / "a").rmdir()
    (site.host / "a").write_text("1\n")
    assert site.run("apply", "--check").code == 0
    assert log(site) == 1


def test_a_chain(site: SiteFolder) -> None:
    site.write(
        "site.toml",
        """
        [file."HOST/a"]
        content = "1\\n"
        [command.first]
        run = ["sh", "-c", "echo first >> HOST/log"]
        refresh_on = ["file:HOST/a"]
        [command.second]
        run = ["sh", "-c", "echo second >> HOST/log"]
        refresh_on = ["command:first"]
        """,
    )
    planned = site.run("apply", "--check", "--json")
    assert planned.json["summary"] == {"would-add": 1, "would-refresh": 2}
    assert site.run("apply").code == 0
    assert (site.host / "log").read_text() == "first\nsecond\n"
    assert site.run("apply", "--check").code == 0


def test_what_is_owed_to_no_target_stays_owed(site: SiteFolder) -> None:
    site.write("site.toml", LISTENER.format(a=1, b=1))
    for words in (["apply", "file:*"], ["apply", "--check", f"file:{site.host}/b"]):
        result = site.run(*words)
        assert result.code == 0
        assert "still to be refreshed: command:listens" in result.out
    assert log(site) == 0
    assert site.run("apply", "--check").code == 2
    assert site.run("apply").code == 0
    assert log(site) == 1


def test_a_listener_that_is_gone_is_owed_nothing(site: SiteFolder) -> None:
    site.write("site.toml", LISTENER.format(a=1, b=1))
    (site.host / "refuse").touch()
    assert site.run("apply").code == 1
    whole = LISTENER.format(a=1, b=1)
    site.write("site.toml", whole.partition("[command")[0])
    assert site.run("apply").code == 0
    (site.host / "refuse").unlink()
    site.write("site.toml", whole)
    assert site.run("apply", "--check").code == 0


def test_another_site_leaves_what_is_owed(site: SiteFolder) -> None:
    site.write("site.toml", LISTENER.format(a=1, b=1))
    site.write("other.toml", '[file."HOST/other"]\ncontent = ""\n')
    (site.host / "refuse").touch()
    assert site.run("apply").code == 1
    other = site.run("apply", site="other.toml")
    assert (other.code, "command:listens" in other.out) == (0, False)
    assert site.run("apply", "--check", "--json").resource("command:listens")["outcome"] == "would-refresh"


@pytest.mark.parametrize("guard", ["creates", "unless"])
def test_a_guard_can_say_that_there_is_no_need(site: SiteFolder, guard: str) -> None:
    there = '"HOST/there"' if guard == "creates" else '["test", "-e", "HOST/there"]'
    site.write(
        "site.toml",
        f"""
        [file."HOST/a"]
        content = "1\\n"
        [command.listens]
        run = ["sh", "-c", "echo ran >> HOST/log; touch HOST/there"]
        {guard} = {there}
        refresh_on = ["file:HOST/a"]
        """,
    )
    assert site.run("apply").code == 0
    assert log(site) == 1
    Path(site.host / "a").unlink()
    assert site.run("apply").code == 0
    assert log(site) == 1


def test_an_acceptance_check_runs_after_a_change(site: SiteFolder) -> None:
    site.write(
        "site.toml",
        """
        [file."HOST/a"]
        content = "1\\n"
        [check.works]
        run = ["sh", "-c", "echo ran >> HOST/log; test ! -e HOST/refuse"]
        requires = ["file:HOST/a"]
        """,
    )
    assert site.run("apply").code == 0
    assert site.run("apply").code == 0
    assert log(site) == 1
    (site.host / "a").unlink()
    (site.host / "refuse").touch()
    failed = site.run("apply", "--json")
    assert failed.code == 1
    assert failed.resource("check:works")["outcome"] == "failed"
    assert "did not turn out as expected" in failed.resource("check:works")["error"]
    last = [change for change in runs(site)[0]["changes"] if change["resource"] == "check:works"]
    assert (last[0]["action"], last[0]["outcome"]) == ("check", "failed")
    assert site.run("doctor").code == 1
