"""What all commands share: help, options, errors, JSON, encodings, and completion in a shell."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from outside import command, environ
from sitefolder import ROOT, SiteFolder

COMMANDS = re.findall(r'^    "([a-z]+)": "', (ROOT / "agent/cli/main.py").read_text(), re.MULTILINE)
SITE = """
[directory."HOST/d"]
[file."HOST/d/a"]
content = "\\u00e4 \\u2192 \\U0001F600\\n"
[command.listens]
run = ["true"]
refresh_on = ["file:HOST/d/a"]
[check.fine]
run = ["true"]
"""


def test_no_arguments_show_the_help(site: SiteFolder) -> None:
    result = site.run(site=None)
    assert (result.code, result.out) == (3, "")
    assert "Usage: agent" in result.err
    assert {"apply", "doctor", "completion"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples(site: SiteFolder, name: str) -> None:
    for option in ("--help", "-h"):
        result = site.run(name, option, site=None)
        assert result.code == 0
        assert "Examples:" in result.out
        assert f"agent {name}" in result.out.partition("Examples:")[2]
        assert "--json" in result.out


def test_version_and_help(site: SiteFolder) -> None:
    assert re.fullmatch(r"agent \d+\.\d+\.\d+\S*\n", site.run("--version", site=None).out)
    helped = site.run("--help", site=None)
    assert helped.code == 0
    assert all(name in helped.out for name in COMMANDS)


@pytest.mark.parametrize(
    ("words", "nearest"),
    [(["aply"], "apply"), (["apply", "--chekc"], "--check"), (["stats"], "status"), (["log", "--limt"], "--limit")],
)
def test_a_slip_is_told_with_what_was_meant(site: SiteFolder, words: list[str], nearest: str) -> None:
    result = site.run(*words, site=None)
    assert (result.code, result.out) == (3, "")
    assert nearest in result.err
    as_json = site.run(*words, "--json", site=None)
    assert as_json.code == 3
    assert nearest in as_json.json["error"]["summary"]


@pytest.mark.parametrize("words", [["graph", "-o", "x.png"], ["docs", "fiel"], ["completion", "csh"], ["log", "-1"]])
def test_wrong_arguments(site: SiteFolder, words: list[str]) -> None:
    site.write("site.toml", SITE)
    assert site.run(*words).code == 3
    assert site.run(*words, "--json").json["error"]


def test_no_site(site: SiteFolder) -> None:
    for name in ("apply", "show", "graph", "status", "doctor", "validate"):
        result = site.run(name)
        assert result.code == 3
        assert "there is no site file" in result.err
    assert not site.state.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["apply", "--check"], ["apply"], ["status"], ["show"], ["graph"], ["log"], ["log", "1"], ["doctor"],
        ["validate"], ["docs"], ["docs", "file"], ["completion", "bash"], ["graph", "--svg"],
    ],
)  # fmt: skip
def test_json_is_one_document_and_all_there_is(site: SiteFolder, words: list[str]) -> None:
    site.write("site.toml", SITE)
    if "log" in words:
        site.run("apply")
    for option in (["--json"], ["--json", "--quiet"], ["--json", "--verbose"]):
        result = site.run(*words, *option)
        assert result.code in (0, 2)
        assert result.json["version"] == 1
        assert result.json["mode"] == ("check" if "--check" in words else words[0])
        assert result.err == ""
    before = command(site)
    first = [*before[:3], "--json", *words, *before[3:]]
    moved = subprocess.run(first, env=environ(site), capture_output=True, check=False)
    assert json.loads(moved.stdout)["version"] == 1


def test_status_adds_the_history(site: SiteFolder) -> None:
    site.write("site.toml", SITE)
    site.run("apply")
    (site.host / "d/a").write_text("drift\n")
    assert site.run("apply").code == 0
    result = site.run("status", "--json")
    assert result.code == 0
    row = result.resource(f"file:{site.host}/d/a")
    assert (row["repairs"], row["contested"]) == (1, False)
    assert row["last_drift"] <= row["last_checked"]
    assert "repaired once" in site.run("status").out


def test_doctor(site: SiteFolder) -> None:
    site.write("site.toml", SITE + '[check.bad]\nrun = ["sh", "-c", "echo no luck; exit 4"]\n')
    result = site.run("doctor")
    assert result.code == 1
    assert "pass check:fine" in result.out
    assert "FAIL check:bad" in result.out
    assert "no luck" in result.out
    assert "1 passed, 1 failed" in result.out
    assert site.run("doctor", "check:fine").code == 0
    checks = site.run("doctor", "site", "--json").json["checks"]
    assert [(each["passed"], each["hint"]) for each in checks] == [(True, None), (False, "agent apply state:site")]
    assert site.run("doctor", "nowhere").code == 3


def test_graph(site: SiteFolder) -> None:
    site.write("site.toml", SITE)
    dot = site.run("graph")
    assert dot.code == 0
    assert f'"file:{site.host}/d/a" -> "directory:{site.host}/d" [style = dashed];' in dot.out
    assert f'"command:listens" -> "file:{site.host}/d/a" [color = blue];' in dot.out
    for words in (["--svg"], ["-o", str(site.path / "x.svg")], ["-o", str(site.path / "x.dot")]):
        assert site.run("graph", *words).code == 0
    picture = ElementTree.fromstring(site.run("graph", "--svg").out)
    assert picture.tag.endswith("svg")
    assert f"file:{site.host}/d/a" in "".join(picture.itertext())
    ElementTree.parse(site.path / "x.svg")
    assert (site.path / "x.dot").read_text() == dot.out
    assert site.run("graph", "-o", "/nowhere/x.svg").code == 3
    assert len(site.run("graph", "--json").json["edges"]) == 2


@pytest.mark.parametrize("words", [["apply", "--check"], ["apply", "--check", "--json"], ["show"], ["log", "1"]])
@pytest.mark.parametrize("locale", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}])
def test_any_locale_will_do(site: SiteFolder, words: list[str], locale: dict[str, str]) -> None:
    site.write("site.toml", SITE + '[file."HOST/n\u00e4me"]\ncontent = ""\n')
    site.environ.update(locale)
    site.run("apply")
    assert (site.host / "n\u00e4me").exists()
    (site.host / "d/a").unlink()
    result = site.run(*words)
    assert result.code in (0, 2)
    if "--json" in words:
        assert "\U0001f600" in result.resource(f"file:{site.host}/d/a")["diff"]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("agent app", ["apply"]),
        ("agent apply --che", ["--check"]),
        ("agent apply --site SITE state:", ["site"]),
        ("agent apply --site SITE file:HOST/d/", ["HOST/d/a"]),
        ("agent apply --site SITE 'file:HOST/d/", ["file:HOST/d/a"]),  # no colon ends a word in quotes
        ("agent show --site SITE comm", ["command:*", "command:listens"]),
        ("agent completion ", ["bash", "fish", "zsh"]),
        ("agent apply --site /nowhere file:", []),
    ],
)
def test_completion_in_bash(site: SiteFolder, typed: str, offered: list[str]) -> None:
    site.write("site.toml", SITE)
    program = site.path / "agent"
    program.write_text(f'#!/bin/sh\nexec {command(site)[0]} -m agent "$@"\n')
    program.chmod(0o755)
    site.write("complete.bash", site.run("completion", "bash").out)
    line = typed.replace("SITE", str(site.path / "site.toml")).replace("HOST", str(site.host))
    script = (
        'source complete.bash; compopt() { :; }; COMP_LINE="$1" COMP_POINT=${#1}; _agent_completion "$2"; '
        'printf "%s\\n" "${COMPREPLY[@]}"; complete -p agent'
    )
    words = ["bash", "--norc", "-c", script, "bash", line, str(program)]
    ended = subprocess.run(words, cwd=site.path, env=environ(site), capture_output=True, text=True, check=True)
    *found, registered = ended.stdout.splitlines()
    assert sorted(filter(None, found)) == [word.replace("HOST", str(site.host)) for word in offered]
    assert "-F _agent_completion agent" in registered
    assert ended.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_parse(site: SiteFolder, shell: str) -> None:
    result = site.run("completion", shell)
    assert result.code == 0
    assert "_AGENT_COMPLETE" in result.out
    if shutil.which(shell):
        script = site.write("script", result.out)
        subprocess.run([shell, "-n", str(script)], check=True)


def test_umask_of_the_caller_does_not_matter(site: SiteFolder) -> None:
    site.write("site.toml", '[command.makes]\nrun = ["touch", "HOST/made"]\ncreates = "HOST/made"\n')
    before = os.umask(0o077)
    try:
        assert site.run("apply").code == 0
    finally:
        os.umask(before)
    assert Path(site.host / "made").stat().st_mode & 0o777 == 0o644
