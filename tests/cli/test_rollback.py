"""`agent rollback`: what a run and those after it changed goes back, and what cannot is said first."""

from __future__ import annotations

import os
import pty
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from outside import kill, runs, start, stray
from sitefolder import Result, SiteFolder

FIRST = (
    '[directory."HOST/d"]\nmode = "0750"\n[file."HOST/d/a"]\ncontent = "one\\n"\nmode = "0600"\n'
    '[link."HOST/l"]\ntarget = "d"\n[block."HOST/shared#b"]\ncontent = "b one"\n'
)
SECOND = (
    '[directory."HOST/d"]\nmode = "0700"\n[file."HOST/d/a"]\ncontent = "two\\n"\nmode = "0640"\n'
    '[link."HOST/l"]\ntarget = "other"\n[block."HOST/shared#b"]\ncontent = "b two"\n'
    '[directory."HOST/d/new"]\n[file."HOST/d/new/n"]\ncontent = "n"\n'
)


def picture(folder: Path) -> dict[str, tuple[int, str]]:
    """All that is in a folder: mode, and content or target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = str(path.readlink()) if path.is_symlink() else "" if path.is_dir() else path.read_text()
        found[str(path.relative_to(folder))] = (path.lstat().st_mode, content)
    return found


def applied(site: SiteFolder, text: str, *words: str) -> Result:
    """A site that was declared and applied."""
    site.write("site.toml", text)
    result = site.run("apply", *words)
    assert result.code == 0, result.text
    return result


@pytest.fixture
def pictures(site: SiteFolder) -> list[dict[str, tuple[int, str]]]:
    """How the host was before anything, after run 1 and after run 2."""
    (site.host / "shared").write_text("not ours\n")
    found = [picture(site.host)]
    for text in (FIRST, SECOND):
        applied(site, text)
        found.append(picture(site.host))
    return found


def test_one_run_goes_back_and_forth(site: SiteFolder, pictures: list[dict[str, tuple[int, str]]]) -> None:
    checked = site.run("rollback", "2", "--check", "--json")
    assert checked.code == 2
    assert checked.json["mode"] == "check"
    assert checked.json["rollback"] == 2
    assert checked.json["summary"] == {"would-change": 4, "would-remove": 2}
    assert "-two\n+one\n" in checked.resource(f"file:{site.host}/d/a")["diff"]
    assert picture(site.host) == pictures[2]
    done = site.run("rollback", "2", "--yes", "--json")
    assert done.code == 0, done.text
    assert done.ids == checked.ids
    assert done.json["summary"] == {"changed": 4, "removed": 2}
    assert f"site.toml:3 (file:{site.host}/d/a)" in " ".join(done.json["notes"])
    assert picture(site.host) == pictures[1]
    assert site.run("rollback", "2", "--yes", "--json").json["summary"] == {"in-desired-state": 6}
    log = runs(site)
    assert [(run["mode"], run["outcome"]) for run in log[:2]] == [("rollback", "rolled back")] * 2
    # A rollback is a run like any other: it can be rolled back.
    assert site.run("rollback", "3", "--yes").code == 0
    assert picture(site.host) == pictures[2]
    assert site.run("apply", "--check").code == 0


def test_several_runs_go_back_at_once(site: SiteFolder, pictures: list[dict[str, tuple[int, str]]]) -> None:
    (site.host / "d/a").write_text("drift\n")
    assert site.run("apply").code == 0
    assert site.run("rollback", "1", "--yes").code == 0
    assert picture(site.host) == pictures[0]
    # What the site asks for is brought about again, as what is intended, not as drift.
    again = site.run("apply", "--json")
    assert again.code == 0
    assert {row["cause"] for row in again.json["resources"]} == {"intent"}
    assert picture(site.host) == pictures[2]


def test_what_others_changed_is_left_alone(site: SiteFolder, pictures: list[dict[str, tuple[int, str]]]) -> None:
    (site.host / "d/a").write_text("by hand\n")
    (site.host / "l").unlink()
    result = site.run("rollback", "2", "--yes", "--json")
    assert result.code == 1
    for id, what in ((f"file:{site.host}/d/a", "content"), (f"link:{site.host}/l", "existence")):
        row = result.resource(id)
        assert row["outcome"] == "skipped"
        assert f"changed by others since ({what})" in row["note"]
    assert (site.host / "d/a").read_text() == "by hand\n"
    assert not (site.host / "d/new").exists()
    assert site.run("rollback", "2", "--yes", "--force").code == 0
    assert picture(site.host) == pictures[1]


def test_only_what_the_runs_changed_goes_back(site: SiteFolder) -> None:
    (site.host / "a").write_text("a")
    applied(site, '[file."HOST/a"]\ncontent = "b"\nmode = "0644"\n')
    applied(site, '[file."HOST/a"]\ncontent = "b"\nmode = "0600"\n')
    (site.host / "a").chmod(0o600)
    applied(site, '[file."HOST/a"]\ncontent = "c"\nmode = "0600"\n')
    assert site.run("rollback", "3", "--yes").code == 0
    assert (site.host / "a").read_text() == "b"
    assert (site.host / "a").stat().st_mode & 0o777 == 0o600


def test_what_cannot_go_back_is_said_first(site: SiteFolder) -> None:
    site.write("key", "old and secret")
    text = (
        '[secrets.key]\nfile = "key"\n[command.c]\nrun = ["touch", "HOST/c"]\ncreates = "HOST/c"\n'
        '[file."HOST/secret"]\ncontent = "{{ secrets.key }}"\nmode = "%s"\n[file."HOST/plain"]\ncontent = "%s"\n'
    )
    applied(site, text % ("0600", "one"))
    site.write("key", "new and secret")
    applied(site, text % ("0640", "two"))
    backups = {path.name for path in (site.state / "backups").iterdir()}
    assert len(backups) == 1
    checked = site.run("rollback", "2", "--check")
    assert checked.code == 2
    assert "in part: content was secret, and never kept" in checked.out
    assert "and secret" not in checked.text
    assert site.run("rollback", "2", "--yes").code == 0
    assert (site.host / "secret").read_text() == "new and secret"
    assert (site.host / "secret").stat().st_mode & 0o777 == 0o600
    assert (site.host / "plain").read_text() == "one"
    whole = site.run("rollback", "1", "--check", "--json")
    assert "a command cannot be put back" in whole.resource("command:c")["note"]
    # A backup that is gone is said as well, and the rest goes back.
    applied(site, text % ("0600", "three"))
    for path in (site.state / "backups").iterdir():
        path.unlink()
    result = site.run("rollback", "4", "--yes", "--json")
    assert "the backup of what it held is gone" in result.resource(f"file:{site.host}/plain")["note"]
    assert (site.host / "plain").read_text() == "three"


def test_a_secret_that_stays_is_not_opened_to_others(site: SiteFolder) -> None:
    (site.host / "s").write_text("for everybody")
    (site.host / "s").chmod(0o644)
    applied(site, '[file."HOST/s"]\ncontent = "for root alone"\nsensitive = true\n')
    assert (site.host / "s").stat().st_mode & 0o777 == 0o600
    done = site.run("rollback", "1", "--json")
    assert "content was secret, and never kept" in done.resource(f"file:{site.host}/s")["note"]
    assert (site.host / "s").read_text() == "for root alone"
    assert (site.host / "s").stat().st_mode & 0o777 == 0o600


def test_what_listens_is_refreshed(site: SiteFolder) -> None:
    text = (
        '[file."HOST/a"]\ncontent = "%s"\n[command.listens]\nrun = ["sh", "-c", "cat HOST/a >> HOST/log"]\n'
        'refresh_on = ["file:HOST/a"]\n[command.other]\nrun = ["touch", "HOST/other"]\nrefresh_on = ["file:HOST/z"]\n'
        '[file."HOST/z"]\ncontent = "z"\n'
    )
    applied(site, text % "1")
    applied(site, text % "2")
    (site.host / "other").unlink()
    checked = site.run("rollback", "2", "--check", "--json")
    assert checked.json["summary"] == {"would-change": 1, "would-refresh": 1}
    result = site.run("rollback", "2", "--yes", "--json")
    assert result.code == 0, result.text
    assert result.json["summary"] == {"changed": 1, "refreshed": 1}
    assert (site.host / "log").read_text() == "121"
    assert not (site.host / "other").exists()
    assert [change["action"] for change in runs(site, "3")[0]["changes"]] == ["change", "refresh"]


def test_a_removal_goes_back(site: SiteFolder) -> None:
    (site.host / "a").write_text("as it was\n")
    applied(site, '[file."HOST/a"]\ncontent = "ours\\n"\non_removal = "undo"\n[file."HOST/b"]\ncontent = "b"\n')
    applied(site, '[file."HOST/b"]\ncontent = "b"\n')
    assert (site.host / "a").read_text() == "as it was\n"
    assert site.run("rollback", "2", "--yes").code == 0
    assert (site.host / "a").read_text() == "ours\n"
    # Nobody declares it any more, so it stays.
    assert site.run("apply", "--json").json["summary"] == {"in-desired-state": 1}
    assert (site.host / "a").read_text() == "ours\n"


def test_a_kill_in_the_midst_loses_nothing(site: SiteFolder) -> None:
    files = "".join(f'[file."HOST/f{number}"]\ncontent = "%s"\n' for number in range(60))
    listens = '[command.listens]\nrun = ["sh", "-c", "cat HOST/f59 >> HOST/log"]\nrefresh_on = ["file:HOST/f*"]\n'
    applied(site, (files + listens).replace("%s", "old"))
    applied(site, (files + listens).replace("%s", "new"))
    process = start(site, "rollback", "2", "--yes", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while (site.host / "f40").read_text() != "old" and process.poll() is None:
        pass
    kill(process)
    assert {(site.host / f"f{number}").read_text() for number in range(60)} <= {"old", "new"}
    result = site.run("rollback", "2", "--yes", "--json")
    assert result.code == 0, result.text
    assert {(site.host / f"f{number}").read_text() for number in range(60)} == {"old"}
    assert (site.host / "log").read_text().endswith("old")
    assert stray(site.host) == []
    assert (runs(site)[1]["outcome"], runs(site)[0]["outcome"]) == ("cut off", "rolled back")


def test_a_script_is_not_asked(site: SiteFolder) -> None:
    applied(site, '[file."HOST/a"]\ncontent = "a"\n')
    done = site.run("rollback", "1", "--json")
    assert (done.code, done.json["summary"]) == (0, {"removed": 1})
    assert not (site.host / "a").exists()


def test_a_terminal_is_asked(site: SiteFolder) -> None:
    applied(site, '[file."HOST/a"]\ncontent = "a"\n')
    for answer, status, left in ((b"n\n", 1, True), (b"y\n", 0, False)):
        ours, theirs = pty.openpty()
        process = start(site, "rollback", "1", stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        os.write(ours, answer)
        said = b""
        with suppress(OSError):  # EIO: nobody has the other end open any more
            while data := os.read(ours, 65536):
                said += data
        os.close(ours)
        assert (process.wait(60), (site.host / "a").exists()) == (status, left), said
        assert b"put back what run 1 and later ones changed?" in said


def test_refused_without_such_a_run(site: SiteFolder) -> None:
    site.write("other.toml", '[file."HOST/b"]\ncontent = "b"\n')
    site.write("site.toml", '[file."HOST/a"]\ncontent = "a"\n')
    for words in (("1",), ("1", "--yes"), ("0",), ("x",), ()):
        assert site.run("rollback", *words).code == 3
    assert site.run("apply").code == 0
    assert "there is no run 2" in site.run("rollback", "2", "--yes").err
    foreign = site.run("rollback", "1", "--yes", site="other.toml")
    assert foreign.code == 3
    assert "one of the site" in foreign.err
    assert (site.host / "a").exists()


def test_another_site_is_left_alone(site: SiteFolder) -> None:
    applied(site, '[file."HOST/a"]\ncontent = "a"\n')
    site.write("other.toml", '[file."HOST/b"]\ncontent = "b"\n')
    assert site.run("apply", site="other.toml").code == 0
    assert site.run("rollback", "1", "--yes").code == 0
    assert [path.name for path in site.host.iterdir()] == ["b"]
