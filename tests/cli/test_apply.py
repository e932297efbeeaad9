"""`agent apply`: exit statuses, order, targets, failures and what they block."""

from __future__ import annotations

import json

import pytest
from outside import stray, tree
from sitefolder import SiteFolder

THREE = """
[directory."HOST/etc"]
[file."HOST/etc/one"]
content = "1\\n"
mode = "0640"
[link."HOST/etc/two"]
target = "one"
[block."HOST/etc/three#mine"]
content = "3\\n"
"""


def test_makes_it_so_and_then_finds_nothing(site: SiteFolder) -> None:
    site.write("site.toml", THREE)
    first = site.run("apply", "--json")
    assert first.code == 0
    assert first.json["mode"] == "apply"
    assert first.json["converged"] is True
    assert first.json["run"] == 1
    assert {row["outcome"] for row in first.json["resources"]} == {"added"}
    assert (site.host / "etc/one").read_text() == "1\n"
    assert (site.host / "etc/one").stat().st_mode & 0o7777 == 0o640
    before = tree(site.host, atimes=True)
    second = site.run("apply", "--json")
    assert second.code == 0
    assert second.json["summary"] == {"in-desired-state": 4}
    assert tree(site.host, atimes=True) == before
    assert not stray(site.host)


def test_json_is_as_documented(site: SiteFolder) -> None:
    site.write("site.toml", THREE)
    document = site.run("apply", "--check", "--json").json
    assert list(document)[:7] == ["version", "mode", "site", "run", "duration_s", "converged", "resources"]
    assert (document["version"], document["mode"], document["run"], document["converged"]) == (1, "check", None, False)
    row = document["resources"][1]
    wanted = {"id", "state", "source", "outcome", "cause", "changes", "diff", "error", "blocked_by", "duration_s"}
    assert wanted <= set(row)
    assert row["source"] == "site.toml:3"
    assert row["state"] == "site"
    assert (row["outcome"], row["cause"]) == ("would-add", "intent")
    assert {"attribute": "mode", "actual": None, "desired": "0640"} in row["changes"]
    assert "+1\n" in row["diff"]
    assert (row["error"], row["blocked_by"]) == (None, [])
    assert isinstance(row["duration_s"], float)
    assert document["summary"] == {"would-add": 4}


def test_a_failure_blocks_what_needs_it_and_nothing_else(site: SiteFolder) -> None:
    (site.host / "taken").mkdir()
    site.write(
        "site.toml",
        """
        [file."HOST/taken"]
        content = "x"
        [file."HOST/second"]
        content = "x"
        requires = ["file:HOST/taken"]
        [file."HOST/third"]
        content = "x"
        requires = ["file:HOST/second"]
        [file."HOST/free"]
        content = "x"
        """,
    )
    result = site.run("apply", "--json")
    assert result.code == 1
    assert result.resource(f"file:{site.host}/taken")["outcome"] == "failed"
    assert "is a directory" in result.resource(f"file:{site.host}/taken")["error"]
    second, third = result.resource(f"file:{site.host}/second"), result.resource(f"file:{site.host}/third")
    assert (second["outcome"], second["blocked_by"]) == ("blocked", [f"file:{site.host}/taken"])
    assert (third["outcome"], third["blocked_by"]) == ("blocked", [f"file:{site.host}/second"])
    assert second["changes"] == []
    assert result.resource(f"file:{site.host}/free")["outcome"] == "added"
    assert sorted(path.name for path in site.host.iterdir()) == ["free", "taken"]
    (site.host / "taken").rmdir()
    assert site.run("apply").code == 0
    assert (site.host / "third").exists()


def test_what_did_not_converge_has_failed(site: SiteFolder) -> None:
    site.write(
        "site.toml",
        """
        [command.makes-nothing]
        run = ["true"]
        creates = "HOST/nothing"
        [command.still-needed]
        run = ["true"]
        unless = ["false"]
        [command.fine]
        run = ["touch", "HOST/made"]
        creates = "HOST/made"
        """,
    )
    result = site.run("apply", "--json")
    assert result.code == 1
    outcomes = {id: result.resource(id)["outcome"] for id in result.ids}
    assert outcomes == {"command:makes-nothing": "failed", "command:still-needed": "failed", "command:fine": "changed"}
    assert "did not converge" in result.resource("command:makes-nothing")["error"]
    assert site.run("apply", "--check").code == 2


def test_targets_narrow_to_what_they_need(site: SiteFolder) -> None:
    site.write("states/one/state.toml", '[file."HOST/d/one"]\ncontent = "1"\n')
    site.write(
        "site.toml",
        '[site]\nstates = ["one"]\n[directory."HOST/d"]\n[file."HOST/d/x1"]\ncontent = ""\n'
        '[file."HOST/d/x2"]\ncontent = ""\n[link."HOST/l"]\ntarget = "d"\n[service.cron]\n',
    )

    def planned(*targets: str) -> set[str]:
        result = site.run("apply", "--check", "--json", *targets)
        assert result.code == 2
        return {id.removeprefix(str(site.host)) for id in (id.partition(":")[2] for id in result.ids)}

    assert planned(f"file:{site.host}/d/x1") == {"/d", "/d/x1"}
    assert planned(f"file:{site.host}//d/./x1") == {"/d", "/d/x1"}
    assert planned("file:*") == {"/d", "/d/x1", "/d/x2", "/d/one"}
    assert planned(f"file:{site.host}/d/x*", "link:*") == {"/d", "/d/x1", "/d/x2", "/l"}
    assert site.run("show", "service:cron.service", "--json").ids == ["service:cron"]
    assert planned("state:one") == {"/d", "/d/one"}
    assert planned("state:site") == {"/d", "/d/x1", "/d/x2", "/l", "cron"}
    assert site.run("apply", "link:*").code == 0
    assert [path.name for path in site.host.iterdir()] == ["l"]


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("file:HOST/d/onee", "file:HOST/d/one"),
        ("state:sites", "state:site"),
        ("nothing", "kind:name"),
        ("filee:*", 'did you mean "file:*"?'),
        ("User:nobody", 'did you mean "user:nobody"?'),
        ("stat:one", 'did you mean "state:one"?'),
        ("zz:*", "kinds are"),
        ("link:*", "agent show"),
    ],
)
def test_a_target_that_means_nothing(site: SiteFolder, target: str, hint: str) -> None:
    site.write("site.toml", '[file."HOST/d/one"]\ncontent = "1"\n')
    for mode in ([], ["--check"]):
        result = site.run("apply", target.replace("HOST", str(site.host)), *mode)
        assert result.code == 3
        assert hint.replace("HOST", str(site.host)) in result.err
    assert not list(site.host.iterdir())
    assert not (site.state / "journal.sqlite").exists()


def test_wrong_declarations_touch_nothing(site: SiteFolder) -> None:
    site.write("site.toml", '[file."HOST/one"]\ncontent = "1"\n[file."HOST/two"]\ncontnet = "2"\n')
    for words in (["apply"], ["apply", "--check"], ["status"], ["doctor"], ["graph"]):
        result = site.run(*words, "--json")
        assert result.code == 3, words
        assert result.json["problems"][0]["line"] == 4
        assert "did you mean" in result.err
    assert not list(site.host.iterdir())


def test_a_guard_that_a_pending_requirement_brings_is_known_after_apply(site: SiteFolder) -> None:
    site.write(
        "site.toml",
        """
        [file."HOST/guard"]
        content = "#!/bin/sh\\nexit 1\\n"
        mode = "0755"
        [command.guarded]
        run = ["touch", "HOST/made"]
        only_if = ["HOST/guard.sh"]
        requires = ["command:maker"]
        [command.maker]
        run = ["cp", "-p", "HOST/guard", "HOST/guard.sh"]
        creates = "HOST/guard.sh"
        requires = ["file:HOST/guard"]
        """,
    )
    check = site.run("apply", "--check")
    assert check.code == 2
    assert "? command:guarded " in check.out
    assert "known after apply: command:maker runs first" in check.out
    assert "1 known after apply" in check.out
    applied = site.run("apply", "--json")
    assert applied.code == 0
    assert applied.resource("command:guarded")["outcome"] == "in-desired-state"
    assert not (site.host / "made").exists()


def test_a_secret_is_generated_once(site: SiteFolder) -> None:
    site.write(
        "site.toml",
        '[secrets.key]\ngenerate = 20\n[file."HOST/conf"]\ncontent = "key={{ secrets.key }}\\n"\n',
    )
    check = site.run("apply", "--check", "--json")
    assert check.code == 2
    assert check.resource(f"file:{site.host}/conf")["outcome"] == "unknown"
    assert not (site.path / "secrets").exists()
    applied = site.run("apply", "--json")
    assert applied.code == 0
    key = (site.path / "secrets/key").read_text().strip()
    assert len(key) == 20
    assert (site.host / "conf").read_text() == f"key={key}\n"
    assert key not in applied.text
    assert str(site.path / "secrets/key") in json.dumps(applied.json["notes"])
    assert site.run("apply", "--json").json["notes"] == []
    assert (site.path / "secrets/key").read_text().strip() == key
