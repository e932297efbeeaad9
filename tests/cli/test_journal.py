"""`agent log`: runs, causes, diffs, durations; kept within bounds; damage is told."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from outside import runs
from sitefolder import SiteFolder

SITE = """
[file."HOST/a"]
content = "{content}\\n"
[file."HOST/b"]
content = "b\\n"
"""


def filled(site: SiteFolder) -> SiteFolder:
    """A site after three runs: made, drifted, declared anew."""
    site.write("site.toml", SITE.format(content="1"))
    assert site.run("apply").code == 0
    (site.host / "a").write_text("by hand\n")
    assert site.run("apply").code == 0
    site.write("site.toml", SITE.format(content="2"))
    assert site.run("apply").code == 0
    return site


def test_before_the_first_run(site: SiteFolder) -> None:
    site.write("site.toml", SITE.format(content="1"))
    assert site.run("log").out == "nothing was applied yet\n"
    assert site.run("log", "--json").json == {"version": 1, "mode": "log", "runs": []}
    assert site.run("log", "1").code == 3


def test_intent_and_drift_are_told_apart(site: SiteFolder) -> None:
    site.write("site.toml", SITE.format(content="1"))
    site.run("apply")
    (site.host / "a").write_text("by hand\n")
    (site.host / "b").chmod(0o600)
    rows = {row["id"]: row for row in site.run("apply", "--check", "--json").json["resources"]}
    assert {row["cause"] for row in rows.values()} == {"drift"}
    site.write("site.toml", SITE.format(content="2"))
    result = site.run("apply", "--json")
    assert result.resource(f"file:{site.host}/a")["cause"] == "intent"
    assert result.resource(f"file:{site.host}/b")["cause"] == "drift"
    site.write("site.toml", SITE.format(content="3"))
    assert site.run("apply", "--check", "--json").resource(f"file:{site.host}/a")["cause"] == "intent"


def test_what_was_found_in_its_desired_state_can_drift_too(site: SiteFolder) -> None:
    (site.host / "a").write_text("1\n")
    (site.host / "b").write_text("b\n")
    site.write("site.toml", SITE.format(content="1"))
    assert site.run("apply", "--json").json["summary"] == {"in-desired-state": 2}
    (site.host / "b").unlink()
    assert site.run("apply", "--json").resource(f"file:{site.host}/b")["cause"] == "drift"


def test_holds_runs_causes_diffs_and_durations(site: SiteFolder) -> None:
    listed = runs(filled(site))
    assert [run["run"] for run in listed] == [3, 2, 1]
    assert {run["outcome"] for run in listed} == {"converged"}
    assert all(isinstance(run["duration_s"], float) and run["started"] <= time.time() for run in listed)
    assert listed[2]["summary"] == {"added": 2}
    drift, intent = listed[1]["changes"][0], listed[0]["changes"][0]
    assert (drift["resource"], drift["action"], drift["cause"]) == (f"file:{site.host}/a", "change", "drift")
    assert "-by hand\n+1\n" in drift["diff"]
    assert (intent["cause"], intent["outcome"]) == ("intent", "done")
    assert intent["source"] == "site.toml:2"
    assert isinstance(intent["duration_s"], float)
    assert [run["run"] for run in runs(site, "2")] == [2]
    text = site.run("log", "2").out
    assert "drift" in text
    assert "-by hand" in text
    assert len(site.run("log").out.splitlines()) == 3
    assert len(site.run("log", "--limit", "2").out.splitlines()) == 2


def test_what_follows_from_another_change_is_no_drift(site: SiteFolder) -> None:
    declared = (
        '[file."HOST/a"]\ncontent = "{}"\n[command.copy]\nrun = ["cp", "HOST/a", "HOST/b"]\n'
        'unless = ["cmp", "HOST/a", "HOST/b"]\nrequires = ["file:HOST/a"]\n'
    )
    site.write("site.toml", declared.format(1))
    assert site.run("apply").code == 0
    site.write("site.toml", declared.format(2))
    row = site.run("apply", "--json").resource("command:copy")
    assert (row["outcome"], row["cause"]) == ("changed", "refresh")
    assert (site.host / "b").read_text() == "2"
    (site.host / "b").write_text("by hand")
    assert site.run("apply", "--json").resource("command:copy")["cause"] == "drift"


def test_values_are_shown_as_in_a_plan(site: SiteFolder) -> None:
    (site.host / "a\nb").touch()
    site.write("site.toml", '[directory."HOST"]\npurge = true\n')
    line = "unmanaged [a\\nb] → []"
    assert line in site.run("apply").out
    assert line in site.run("log", "1").out


def test_a_run_that_is_not_there(site: SiteFolder) -> None:
    filled(site)
    result = site.run("log", "17")
    assert result.code == 3
    assert "the newest is 3" in result.err
    assert site.run("log", "last").code == 3
    assert site.run("log", "0").code == 3


def test_failures_are_in_it(site: SiteFolder) -> None:
    site.write("site.toml", '[command.fails]\nrun = ["sh", "-c", "echo because >&2; exit 3"]\ncreates = "HOST/x"\n')
    assert site.run("apply").code == 1
    run = runs(site)[0]
    assert run["outcome"] == "failed"
    assert run["changes"][0]["outcome"] == "failed"
    assert "exit status 3" in run["changes"][0]["error"]
    assert "because" in site.run("log", "1").out


def test_stays_bounded_and_keeps_what_happened(site: SiteFolder) -> None:
    filled(site)
    with sqlite3.connect(site.state / "journal.sqlite") as db:
        for number in range(4, 2000):
            db.execute("INSERT INTO run (id, started, mode, site, outcome) VALUES (?, 1, 'apply', '', 'ok')", (number,))
        kept = '{"content": {"blob": "0"}}'
        db.execute("INSERT INTO change (run, resource, before) VALUES (-5, 'file:/old', ?)", (kept,))
    (site.state / "backups/0").write_text("what nobody refers to any more")
    assert site.run("apply").code == 0
    with sqlite3.connect(site.state / "journal.sqlite") as db:
        assert db.execute("SELECT count(*) FROM run").fetchone()[0] < 500
        assert [row[0] for row in db.execute("SELECT DISTINCT run FROM change ORDER BY run")] == [1, 2, 3]
    assert not (site.state / "backups/0").exists()
    assert [run["run"] for run in runs(site, "2")] == [2]


@pytest.mark.parametrize("damage", ["header", "middle", "tail", "empty", "text", "directory"])
def test_damage_is_told_without_a_traceback(site: SiteFolder, damage: str) -> None:
    filled(site)
    path = site.state / "journal.sqlite"
    content = path.read_bytes()
    if damage == "directory":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(
            {
                "header": b"\xff" * 100 + content[100:],
                "middle": content[:4096] + b"\xa5" * (len(content) - 4096),
                "tail": content[:5000],
                "empty": b"",
                "text": b"not a database at all\n" * 100,
            }[damage]
        )
    results = [site.run(*words) for words in (["log"], ["log", "1"], ["apply", "--check"], ["status"], ["apply"])]
    if damage == "empty":  # as after a run that was killed before it wrote anything
        assert [result.code for result in results] == [0, 3, 0, 0, 0]
        return
    assert {result.code for result in results} == {1}
    for result in results:
        assert "journal" in result.err
        assert result.err.startswith("agent: ")
    assert '"summary"' in site.run("log", "--json").out
    path.rename(path.with_name("damaged"))
    assert site.run("apply").code == 0


def test_it_belongs_to_its_owner_alone(site: SiteFolder) -> None:
    filled(site)
    for name in ("journal.sqlite", "backups", "compiled"):
        assert Path(site.state / name).stat().st_mode & 0o077 == 0


def test_a_state_folder_that_cannot_be(site: SiteFolder) -> None:
    site.write("site.toml", SITE.format(content="1"))
    site.state.write_text("a file")
    for words in (["apply"], ["log"], ["apply", "--check"]):
        result = site.run(*words)
        assert result.code in (0, 1, 2)
        assert words != ["apply"] or (result.code == 1 and str(site.state) in result.err)
    assert not list(site.host.iterdir())
