"""What cannot be carried out is said by `--check` already, and never where it may yet be possible."""

from __future__ import annotations

from sitefolder import SiteFolder

REFUSED = """
[file."HOST/owner"]
content = "x"
owner = "nobody-has-this-name"
[directory."HOST/group"]
group = "nobody-has-this-name"
[file."HOST/directory"]
content = "x"
[directory."HOST/file"]
[link."HOST/file2"]
target = "x"
[directory."HOST/full"]
ensure = "absent"
[file."HOST/fine"]
content = "x"
[file."HOST/nowhere/file"]
content = "x"
requires = ["command:done"]
[command.done]
run = ["true"]
creates = "HOST"
[user.nobody-had-this-name]
uid = 0
[group.nobody-has-that-name]
gid = 0
[group.root]
ensure = "absent"
[user.nobody-had-that-name]
groups = ["nobody-has-this-name"]
"""


def test_check_says_what_apply_will_refuse(site: SiteFolder) -> None:
    site.write("site.toml", REFUSED)
    (site.host / "directory").mkdir()
    (site.host / "full/x").mkdir(parents=True)
    for name in ("file", "file2"):
        (site.host / name).touch()
    checked, applied = site.run("apply", "--check", "--json"), site.run("apply", "--json")
    assert (checked.code, applied.code) == (1, 1)
    foreseen, come = (
        {row["id"]: row["error"] for row in result.json["resources"] if row["outcome"] == "failed"}
        for result in (checked, applied)
    )
    assert len(foreseen) == 11
    assert foreseen == come
    assert checked.json["summary"] == {"failed": 11, "would-add": 1, "in-desired-state": 1}
    assert (site.host / "fine").exists()


def test_what_a_pending_change_may_bring_is_not_refused(site: SiteFolder) -> None:
    site.write(
        "site.toml",
        '[command.makes]\nrun = ["mkdir", "HOST/new"]\ncreates = "HOST/new"\n'
        '[file."HOST/new/file"]\ncontent = "x"\nrequires = ["command:makes"]\n'
        '[command.moves]\nrun = ["mv", "HOST/taken", "HOST/moved"]\nonly_if = ["test", "-d", "HOST/taken"]\n'
        '[file."HOST/taken"]\ncontent = "x"\n'
        'requires = ["command:moves"]\n[directory."HOST/full"]\nensure = "absent"\n'
        '[file."HOST/full/last"]\nensure = "absent"\n',
    )
    for name in ("taken", "full"):
        (site.host / name).mkdir()
    (site.host / "full/last").touch()
    assert site.run("apply", "--check").code == 2
    result = site.run("apply")
    assert result.code == 0, result.text
    assert (site.host / "taken").read_text() == (site.host / "new/file").read_text() == "x"
    assert not (site.host / "full").exists()
    assert site.run("apply", "--check").code == 0
