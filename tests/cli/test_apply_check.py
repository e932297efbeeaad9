"""`agent apply --check`: changes nothing, says exactly what an apply would do, in text and in JSON."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from outside import tree
from sitefolder import SiteFolder

CONTENTS = ["", "a\n", "a\nb\n", "no end", "\u00e4\u20ac\n", "-- dash\n++ plus\n"]


def test_changes_nothing_at_all(site: SiteFolder) -> None:
    site.write(
        "site.toml",
        """
        [directory."HOST/d"]
        mode = "0700"
        purge = true
        [file."HOST/changed"]
        content = "new\\n"
        validate = ["touch", "HOST/validated"]
        [file."HOST/gone"]
        ensure = "absent"
        [link."HOST/link"]
        target = "changed"
        [block."HOST/blocky#b"]
        content = "b\\n"
        [command.never]
        run = ["touch", "HOST/ran"]
        creates = "HOST/ran"
        [command.listens]
        run = ["touch", "HOST/refreshed"]
        refresh_on = ["file:HOST/changed"]
        """,
    )
    (site.host / "d").mkdir()
    for name in ("d/unmanaged", "changed", "gone", "blocky", "other"):
        (site.host / name).write_text("old\n")
    (site.host / "link").symlink_to("other")
    for path in site.host.rglob("*"):
        if not path.is_symlink():
            os.utime(path, (1, 1))
    site.run("show")  # what the agent keeps of its own is there before
    before, own = tree(site.host, atimes=os.geteuid() == 0), tree(site.state)
    for words in (["apply", "--check"], ["apply", "--check", "--json"], ["status"], ["apply", "--check", "file:*"]):
        assert site.run(*words).code == 2
    after = tree(site.host, atimes=os.geteuid() == 0)
    assert {path: now for path, now in after.items() if before.get(path) != now} == {}
    assert tree(site.state) == own
    site.run("apply")
    own = tree(site.state)
    assert site.run("apply", "--check").code == 0
    assert tree(site.state) == own


def test_text_of_a_plan(site: SiteFolder) -> None:
    (site.host / "conf").write_text("one\ntwo\n")
    (site.host / "conf").chmod(0o600)
    (site.host / "gone").write_text("x\n")
    (site.host / "same").write_text("same\n")
    site.write(
        "site.toml",
        """[file."HOST/conf"]
content = "one\\n2\\n"
[link."HOST/link"]
target = "conf"
[file."HOST/gone"]
ensure = "absent"
[command.reload]
run = ["true"]
refresh_on = ["file:HOST/conf"]
[file."HOST/same"]
content = "same\\n"
""",
    )
    result = site.run("apply", "--check")
    assert result.code == 2
    lines = result.out.replace(str(site.host), "H").splitlines()
    assert lines[0].split() == ["~", "file:H/conf", "site.toml:1"]
    assert lines[1:5] == ["    mode     0600 → 0644", "    content", "      -two", "      +2"]
    assert lines[5].split() == ["+", "link:H/link", "site.toml:3"]
    assert lines[6].split() == ["-", "file:H/gone", "site.toml:5"]
    assert lines[7] == "> command:reload                         run (file:H/conf changes)"
    assert lines[8] == ""
    counts, duration = lines[9].split(" (")
    assert counts == "1 to add, 1 to change, 1 to remove, 1 to refresh; 1 in desired state"
    assert duration.endswith(" s)")
    assert len(lines) == 10
    assert "\033" not in result.out
    verbose = site.run("apply", "--check", "--verbose").out
    assert f"= file:{site.host}/same" in verbose
    assert "site.toml:3\n    target   conf\n" in verbose
    quiet = site.run("apply", "--check", "--quiet")
    assert (quiet.code, quiet.text) == (2, "")


def test_lines_that_look_like_the_head_of_a_diff_are_shown(site: SiteFolder) -> None:
    (site.host / "lua").write_text("-- old comment\nlocal a\n")
    site.write("site.toml", '[file."HOST/lua"]\ncontent = "-- new comment\\nlocal a\\n++ x\\n"\n')
    out = site.run("apply", "--check").out
    assert "      --- old comment\n      +-- new comment\n" in out
    assert "      +++ x\n" in out


@pytest.mark.parametrize("words", [["apply", "--check"], ["apply", "--check", "--verbose"], ["status"], ["apply"]])
def test_control_characters_do_not_reach_the_terminal(site: SiteFolder, words: list[str]) -> None:
    (site.host / "log").write_bytes(b"\x1b[31mred\x07 back\x08 cr\rlf\xc2\x9b1m \xe2\x80\xae turned \xe9\n")
    site.write(
        "site.toml",
        '[file."HOST/log"]\ncontent = "plain \\u001b]0;title\\u0007 \\u0085 \\u202e\\n"\n'
        '[file."HOST/\\u001b[2J"]\ncontent = ""\n',
    )
    out = site.run(*words).out
    assert not {char for char in out if ord(char) < 32 and char != "\n"}
    assert not {"\x7f", "\x85", "\x9b", "\u202e"} & set(out)
    assert "\\x1b]0;title\\x07" in out
    assert "\\u202e" in out


def test_a_name_with_a_line_break_stays_in_its_line(site: SiteFolder) -> None:
    site.write("site.toml", '[file."HOST/two\\nlines\\tand tab"]\ncontent = ""\n')
    assert site.run("apply").code == 0
    (site.host / "two\nlines\tand tab").unlink()
    shown = "two\\nlines\\tand tab"
    for words in (["apply", "--check"], ["apply"], ["status"], ["log"], ["log", "1"], ["log", "2"]):
        out = site.run(*words).out
        assert "two\n" not in out, words
        assert shown in out or words == ["log"], words


def test_binary_content_is_only_said_to_differ(site: SiteFolder) -> None:
    (site.host / "bin").write_bytes(b"\x00\x01")
    site.write("new", b"\x00\xff\xfe")
    site.write("site.toml", '[file."HOST/bin"]\nsource = "new"\n')
    assert "binary content differs: 2 bytes → 3 bytes" in site.run("apply", "--check").out


def test_check_says_what_would_be_blocked(site: SiteFolder) -> None:
    (site.host / "real").mkdir()
    (site.host / "way").symlink_to("real")
    site.write(
        "site.toml",
        '[file."HOST/way/one"]\ncontent = ""\n'
        '[file."HOST/two"]\ncontent = ""\nrequires = ["file:HOST/way/one"]\n[file."HOST/three"]\ncontent = ""\n',
    )
    checked, applied = site.run("apply", "--check", "--json"), site.run("apply", "--json")
    assert (checked.code, applied.code) == (1, 1)
    for result, word in ((checked, "would-add"), (applied, "added")):
        outcomes = [row["outcome"] for row in result.json["resources"]]
        assert outcomes == ["failed", "blocked", word]
        assert result.json["resources"][1]["blocked_by"] == [f"file:{site.host}/way/one"]


NAMES = st.sampled_from(["a", "b", "c", "d"])
RESOURCES = st.dictionaries(
    st.tuples(st.sampled_from(["", "x/", "y/"]), NAMES),
    st.tuples(st.sampled_from(["file", "link", "block", "absent"]), st.sampled_from(CONTENTS)),
    min_size=1,
    max_size=6,
)
DAMAGE = st.lists(
    st.tuples(st.sampled_from(["write", "remove", "chmod", "relink"]), st.sampled_from(["", "x/", "y/"]), NAMES),
    max_size=4,
)


def declared(resources: dict[tuple[str, str], tuple[str, str]]) -> str:
    """A site with these resources, by folder and name."""
    text = [f'[directory."HOST/{folder[:-1]}"]\n' for folder in sorted({folder for folder, _ in resources}) if folder]
    for (folder, name), (kind, content) in resources.items():
        quoted = '"' + content.replace("\n", "\\n") + '"'
        body = {
            "file": f'[file."HOST/{folder}{name}"]\ncontent = {quoted}\nmode = "0640"\n',
            "absent": f'[file."HOST/{folder}{name}"]\nensure = "absent"\n',
            "link": f'[link."HOST/{folder}{name}"]\ntarget = "to{len(content)}"\n',
            "block": f'[block."HOST/{folder}{name}#l"]\ncontent = {quoted}\n',
        }
        text.append(body[kind])
    return "".join(text)


def damage(host: Path, what: str, name: str) -> None:
    """Something that somebody does by hand."""
    path = host / name
    if not path.parent.is_dir() or path.is_dir():
        return
    if what == "write" and not path.is_symlink():
        path.write_text("by hand\n")
    elif what == "remove":
        path.unlink(missing_ok=True)
    elif what == "chmod" and path.is_file() and not path.is_symlink():
        path.chmod(0o777)
    elif what == "relink" and path.is_symlink():
        path.unlink()
        path.symlink_to("elsewhere")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=RESOURCES, second=RESOURCES, by_hand=DAMAGE)
def test_what_check_says_is_what_apply_does(
    site: SiteFolder, first: dict[tuple[str, str], tuple[str, str]], second: dict[tuple[str, str], tuple[str, str]],
    by_hand: list[tuple[str, str, str]],
) -> None:  # fmt: skip
    folder = Path(tempfile.mkdtemp(dir=site.path.parent))
    mine = SiteFolder(folder / "site", folder / "host", folder / "state")
    mine.path.mkdir()
    mine.host.mkdir()
    for resources in (first, second):
        mine.write("site.toml", declared(resources))
        for what, where, name in by_hand:
            damage(mine.host, what, where + name)
        planned = mine.run("apply", "--check", "--json").json
        applied = mine.run("apply", "--json").json
        assert _ids(planned, "would-") == _ids(applied, "")
        failed = {row["id"] for row in applied["resources"] if row["outcome"] in ("failed", "blocked")}
        again = mine.run("apply", "--check", "--json").json
        assert {row["id"] for row in again["resources"] if row["outcome"] != "in-desired-state"} == failed
    shutil.rmtree(folder)


def _ids(document: dict[str, list[dict[str, str]]], prefix: str) -> set[str]:
    words = ("add", "change", "remove", "refresh") if prefix else ("added", "changed", "removed", "refreshed")
    done = {row["id"] for row in document["resources"] if row["outcome"] in {prefix + word for word in words}}
    # A file or link in place of the other: planned as a change, refused when it is made.
    return done | {row["id"] for row in document["resources"] if row["outcome"] in ("failed", "blocked")}
