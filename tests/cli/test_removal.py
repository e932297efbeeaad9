"""Declarations that are removed: left alone and said once, or undone."""

from __future__ import annotations

import pytest
from outside import runs
from sitefolder import SiteFolder

NOTHING = "[site]\n"


def test_what_is_kept_is_said_once(site: SiteFolder) -> None:
    site.write("site.toml", '[file."HOST/a"]\ncontent = "a"\n[command.once]\nrun = ["true"]\n')
    site.run("apply")
    site.write("site.toml", NOTHING)
    for _ in range(2):
        checked = site.run("apply", "--check")
        assert checked.code == 0
        assert f"file:{site.host}/a is no longer declared and was left alone (it was at site.toml:1)" in checked.out
    assert "no longer declared" not in site.run("apply", "--quiet").text  # so it was not said yet
    first = site.run("apply")
    assert first.code == 0
    assert f"file:{site.host}/a is no longer declared" in first.out
    assert "no longer declared" not in site.run("apply").out
    assert (site.host / "a").read_text() == "a"
    site.write("site.toml", '[file."HOST/a"]\ncontent = "a"\n')
    assert site.run("apply", "--json").json["notes"] == []
    site.write("site.toml", NOTHING)
    assert f"file:{site.host}/a is no longer declared" in site.run("apply").out


def test_what_was_made_is_removed(site: SiteFolder) -> None:
    undo = 'on_removal = "undo"\n'
    site.write(
        "site.toml",
        f'[directory."HOST/d"]\n{undo}[directory."HOST/d/e"]\n{undo}[file."HOST/d/e/f"]\ncontent = "f"\n{undo}'
        f'[link."HOST/d/l"]\ntarget = "e"\n{undo}[block."HOST/d/b#b"]\ncontent = "b"\n{undo}'
        '[file."HOST/stays"]\ncontent = ""\n',
    )
    assert site.run("apply").code == 0
    site.write("site.toml", '[file."HOST/stays"]\ncontent = ""\n')
    checked = site.run("apply", "--check", "--json")
    assert checked.code == 2
    assert checked.json["summary"] == {"would-remove": 5, "in-desired-state": 1}
    assert "- file:" in site.run("apply", "--check").out
    assert site.run("apply", "file:*").code == 0  # with targets nothing is undone
    assert (site.host / "d/e/f").exists()
    applied = site.run("apply", "--json")
    assert applied.json["summary"]["removed"] == 4
    # The block leaves its file, which was made for it, so the folder is not empty and stays.
    assert applied.code == 1
    (site.host / "d/b").unlink()
    assert site.run("apply").code == 0
    assert [path.name for path in site.host.iterdir()] == ["stays"]
    assert site.run("apply", "--json").json["summary"] == {"in-desired-state": 1}


def test_what_was_there_is_put_back(site: SiteFolder) -> None:
    (site.host / "a").write_text("as it was\n")
    (site.host / "a").chmod(0o604)
    (site.host / "l").symlink_to("before")
    (site.host / "gone").write_text("came back\n")
    text = (
        '[file."HOST/a"]\ncontent = "{content}"\nmode = "0640"\non_removal = "undo"\n'
        '[link."HOST/l"]\ntarget = "after"\non_removal = "undo"\n'
        '[file."HOST/gone"]\nensure = "absent"\non_removal = "undo"\n'
    )
    site.write("site.toml", text.format(content="first"))
    assert site.run("apply").code == 0
    site.write("site.toml", text.format(content="second"))
    assert site.run("apply").code == 0
    site.write("site.toml", NOTHING)
    checked, applied = site.run("apply", "--check", "--json"), site.run("apply", "--json")
    assert [row["id"] for row in checked.json["resources"]] == [row["id"] for row in applied.json["resources"]]
    assert checked.json["summary"] == {"would-change": 2, "would-add": 1}
    assert applied.json["summary"] == {"changed": 2, "added": 1}
    assert (site.host / "a").read_text() == "as it was\n"
    assert (site.host / "a").stat().st_mode & 0o777 == 0o604
    assert (site.host / "l").readlink().name == "before"
    assert (site.host / "gone").read_text() == "came back\n"
    assert runs(site)[0]["changes"][0]["cause"] == "intent"
    # Declared anew, its history begins anew.
    (site.host / "a").write_text("as it was later\n")
    site.write("site.toml", text.format(content="third"))
    assert site.run("apply").code == 0
    site.write("site.toml", NOTHING)
    assert site.run("apply").code == 0
    assert (site.host / "a").read_text() == "as it was later\n"


def test_on_removal_that_was_added_later_counts(site: SiteFolder) -> None:
    site.write("site.toml", '[file."HOST/a"]\ncontent = "a"\n')
    site.run("apply")
    site.write("site.toml", '[file."HOST/a"]\ncontent = "a"\non_removal = "undo"\n')
    assert site.run("apply", "--json").json["summary"] == {"in-desired-state": 1}
    site.write("site.toml", NOTHING)
    assert site.run("apply").code == 0
    assert not (site.host / "a").exists()


@pytest.mark.parametrize("how", ["when", "for_each"])
def test_left_out_is_removed_too(site: SiteFolder, how: str) -> None:
    text = (
        '[values]\non = {on}\n[file."HOST/a"]\ncontent = "a"\nwhen = "{{{{ on }}}}"\non_removal = "undo"\n'
        if how == "when"
        else '[values]\non = {on}\n[file."HOST/{{{{ item }}}}"]\ncontent = "a"\nfor_each = "{{{{ on }}}}"\n'
        'on_removal = "undo"\n'
    )
    site.write("site.toml", text.format(on="true" if how == "when" else '["a", "b"]'))
    assert site.run("apply").code == 0
    site.write("site.toml", text.format(on="false" if how == "when" else '["b"]'))
    assert site.run("apply", "--check").code == 2
    assert site.run("apply").code == 0
    assert not (site.host / "a").exists()


def test_another_site_undoes_nothing_of_this_one(site: SiteFolder) -> None:
    site.write("site.toml", '[file."HOST/a"]\ncontent = "a"\non_removal = "undo"\n')
    site.write("other.toml", '[file."HOST/b"]\ncontent = "b"\non_removal = "undo"\n')
    assert site.run("apply").code == 0
    assert site.run("apply", site="other.toml").code == 0
    assert sorted(path.name for path in site.host.iterdir()) == ["a", "b"]
    assert site.run("apply", "--check").code == 0


def test_what_was_there_before_is_left_alone(site: SiteFolder) -> None:
    (site.host / "a").write_text("a")
    site.write("site.toml", '[file."HOST/a"]\ncontent = "a"\nmode = "0644"\non_removal = "undo"\n')
    (site.host / "a").chmod(0o644)
    assert site.run("apply", "--json").json["summary"] == {"in-desired-state": 1}
    site.write("site.toml", NOTHING)
    assert "left alone: it was there before" in site.run("apply").out
    assert (site.host / "a").read_text() == "a"


def test_a_command_cannot_be_undone(site: SiteFolder) -> None:
    site.write("site.toml", '[command.c]\nrun = ["touch", "HOST/c"]\ncreates = "HOST/c"\non_removal = "undo"\n')
    if site.run("validate").code == 3:
        return  # refused where it is declared, which is as good
    site.run("apply")
    site.write("site.toml", NOTHING)
    assert "cannot be undone" in site.run("apply").out
    assert "no longer declared" not in site.run("apply").out


@pytest.mark.parametrize("new", ['[link."HOST/a"]\ntarget = "b"\n', '[block."HOST/a#b"]\ncontent = "b"\n'])
def test_makes_room_for_what_is_declared_in_its_place(site: SiteFolder, new: str) -> None:
    site.write("site.toml", '[file."HOST/a"]\ncontent = "a\\n"\non_removal = "undo"\n')
    site.run("apply")
    site.write("site.toml", new)
    assert site.run("apply", "--check").code == 2
    assert site.run("apply").code == 0
    assert site.run("apply", "--check").code == 0
    path = site.host / "a"
    assert path.is_symlink() or "state-agent: b" in path.read_text()


def test_what_cannot_be_put_back_is_said(site: SiteFolder) -> None:
    (site.host / "a").write_text("before\n")
    site.write("site.toml", '[file."HOST/a"]\ncontent = "a"\non_removal = "undo"\n')
    site.run("apply")
    for backup in (site.state / "backups").iterdir():
        backup.unlink()
    site.write("site.toml", NOTHING)
    failed = site.run("apply", "--json")
    assert failed.code == 1
    assert failed.json["resources"][0]["outcome"] == "failed"
    assert "it cannot be undone" in failed.json["resources"][0]["error"]
    assert (site.host / "a").read_text() == "a"


def test_what_cannot_be_undone_says_how_to_leave_it(site: SiteFolder) -> None:
    (site.host / "s").write_text("of before, which is never kept")
    declared = '[file."HOST/s"]\ncontent = "secret"\nsensitive = true\non_removal = "%s"\n'
    site.write("site.toml", declared % "undo")
    assert site.run("apply").code == 0
    site.write("site.toml", "")
    failed = site.run("apply")
    assert failed.code == 1
    assert 'hint: to leave it as it is, declare it once more with on_removal = "keep"' in failed.out
    for text in (declared % "keep", "", ""):
        site.write("site.toml", text)
        assert site.run("apply").code == 0
    assert (site.host / "s").read_text() == "secret"
