"""The kind `block`: marked lines in a file whose other bytes stay as they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import Missing, ResourceError
from agent.host import Host
from agent.host.marked import drop, find, put
from agent.resources.block import Block, _comment_style, _path_and_label
from agent.secret import SecretText

if TYPE_CHECKING:
    from tests.resources.conftest import Converge

BEGIN, END = "# BEGIN state-agent: one\n", "# END state-agent: one\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_text("first\nsecond\n")
    return path


def block(path: Path, **fields: Any) -> Block:
    return Block(name=f"{path}#{fields.pop('label', 'one')}", **fields)


class TestBlock:
    def test_put_changed_and_removed(self, path: Path, converge: Converge, host: Host) -> None:
        converge(block(path, content="a\nb"))
        assert path.read_text() == f"first\nsecond\n{BEGIN}a\nb\n{END}"
        assert converge(block(path, content="a\nb\n")) is None
        path.write_text(path.read_text() + "third\n")
        before = block(path).read(host)
        change = converge(block(path, content=""))
        assert change and [each.attribute for each in change.attributes] == ["content"]
        assert path.read_text() == f"first\nsecond\n{BEGIN}{END}third\n"
        block(path).undo(host, before)
        assert path.read_text() == f"first\nsecond\n{BEGIN}a\nb\n{END}third\n"
        absent = block(path, ensure="absent")
        converge(absent)
        assert path.read_text() == "first\nsecond\nthird\n"
        assert converge(absent) is None
        block(path).undo(host, None)
        assert path.read_text() == "first\nsecond\nthird\n"

    def test_undo_of_a_new_block(self, path: Path, converge: Converge, host: Host) -> None:
        one = block(path, content="a")
        converge(one)
        one.undo(host, None)
        assert path.read_text() == "first\nsecond\n"

    def test_mode_and_owner_stay(self, path: Path, converge: Converge) -> None:
        os.chown(path, 1, 2)
        path.chmod(0o2640)
        converge(block(path, content="a"))
        status = path.stat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o2640, 1, 2)

    @pytest.mark.parametrize(("fields", "mode"), [({}, 0o644), ({"sensitive": True}, 0o600)])
    def test_a_missing_file_is_made(self, tmp_path: Path, converge: Converge, fields: Any, mode: int) -> None:
        converge(block(tmp_path / "new", content="a", **fields))
        assert (tmp_path / "new").read_text() == f"{BEGIN}a\n{END}"
        assert (tmp_path / "new").stat().st_mode & 0o7777 == mode

    def test_missing_parent_and_absent(self, tmp_path: Path, host: Host) -> None:
        with pytest.raises(Missing):
            block(tmp_path / "a" / "b", content="x").read(host)
        assert block(tmp_path / "a" / "b", ensure="absent").read(host) is None

    def test_line_endings_of_the_file(self, path: Path, converge: Converge) -> None:
        path.write_bytes(b"first\r\nsecond\r\n")
        converge(block(path, content="a\nb\n"))
        assert path.read_bytes().count(b"\r\n") == path.read_bytes().count(b"\n") == 6
        path.write_bytes(b"first\nsecond\n")
        converge(block(path, content="a\r\nb\r\n"))
        assert b"\r" not in path.read_bytes()

    def test_no_newline_at_the_end(self, path: Path, converge: Converge) -> None:
        path.write_bytes(b"first\nsecond")
        converge(block(path, content="a"))
        assert path.read_text() == f"first\nsecond\n{BEGIN}a\n{END}".removesuffix("\n")
        converge(block(path, content="b"))
        assert not path.read_text().endswith("\n")
        converge(block(path, ensure="absent"))
        assert path.read_bytes() == b"first\nsecond"

    def test_bytes_that_are_not_utf8_and_a_byte_order_mark(self, path: Path, converge: Converge) -> None:
        path.write_bytes(b"\xef\xbb\xbfl\xe4tin\nsecond\n")
        converge(block(path, content="ä", before="tin"))
        assert path.read_bytes() == b"\xef\xbb\xbf" + f"{BEGIN}ä\n{END}".encode() + b"l\xe4tin\nsecond\n"
        converge(block(path, ensure="absent"))
        assert path.read_bytes() == b"\xef\xbb\xbfl\xe4tin\nsecond\n"

    @pytest.mark.parametrize("there", ["link", "directory", "binary"])
    @pytest.mark.parametrize("fields", [{"content": "x"}, {"ensure": "absent"}])
    def test_only_in_text_files(self, tmp_path: Path, host: Host, there: str, fields: Any) -> None:
        place = tmp_path / "x"
        if there == "link":
            place.symlink_to("y")
        elif there == "directory":
            place.mkdir()
        else:
            place.write_bytes("UTF-16".encode("utf-16"))
        with pytest.raises(ResourceError, match=r"link to|a directory|not a text file"):
            block(place, **fields).read(host)


class TestPlace:
    text = b"[a]\nx = 1\n[b]\nx = 2\n[c]"

    @pytest.mark.parametrize(
        ("fields", "line"),
        [
            ({"after": r"^x ="}, 4),
            ({"before": r"^x ="}, 1),
            ({"after": r"^\[a\]$"}, 1),
            ({"before": r"^\[a"}, 0),
            ({"after": r"^\[c\]$"}, 5),
            ({"before": r"c"}, 4),
            ({"after": "nowhere"}, 5),
            ({"before": "nowhere"}, 5),
            ({}, 5),
        ],
    )
    def test_where_it_goes(self, path: Path, converge: Converge, fields: Any, line: int) -> None:
        path.write_bytes(self.text)
        converge(block(path, content="new", **fields))
        lines = path.read_text().split("\n")
        assert lines[line] == BEGIN.strip()
        assert [each for each in lines if "state-agent" not in each and each != "new"] == self.text.decode().split("\n")
        converge(block(path, ensure="absent"))
        assert path.read_bytes() == self.text

    def test_a_block_that_is_there_stays_where_it_is(self, path: Path, converge: Converge) -> None:
        path.write_text(f"{BEGIN}{END}first\nsecond\n")
        converge(block(path, content="x", after="second"))
        assert path.read_text() == f"{BEGIN}x\n{END}first\nsecond\n"

    def test_never_inside_another_block(self, path: Path, converge: Converge) -> None:
        converge(block(path, content="match\n", label="other", after="first"))
        after = block(path, content="a", label="after", after="match|other|first")
        before = block(path, content="b", label="before", before="match|other|second")
        for each in (after, before):
            converge(each)
        labels = [line.split()[-1] for line in path.read_text().splitlines() if "state-agent" in line]
        assert labels == ["before", "before", "other", "other", "after", "after"]

    def test_two_blocks_of_one_file(self, path: Path, converge: Converge) -> None:
        one, two = block(path, content="1"), block(path, content="2", label="one.two")
        converge(one)
        converge(two)
        assert converge(one) is None and converge(two) is None
        converge(block(path, ensure="absent"))
        assert path.read_text() == "first\nsecond\n# BEGIN state-agent: one.two\n2\n# END state-agent: one.two\n"
        assert one.shares_path and list(one.paths()) == list(two.paths()) == [str(path)]


class TestMarkers:
    @pytest.mark.parametrize(
        ("text", "where"),
        [
            (BEGIN, "BEGIN in line 1; no END"),
            ("x\n" + END, "no BEGIN; END in line 2"),
            (END + BEGIN, "BEGIN in line 2; END in line 1"),
            (BEGIN + END + BEGIN + END, "BEGIN in line 1, 3; END in line 2, 4"),
            (BEGIN + BEGIN + END, "BEGIN in line 1, 2; END in line 3"),
        ],
    )
    def test_broken_ones_are_left_alone(self, path: Path, host: Host, text: str, where: str) -> None:
        path.write_text(text)
        for one in (block(path, content="x"), block(path, ensure="absent")):
            with pytest.raises(ResourceError, match="broken") as caught:
                one.read(host)
            assert caught.value.detail == where
            with pytest.raises(ResourceError, match="broken"):
                one.undo(host, None)
        assert path.read_text() == text

    @pytest.mark.parametrize(
        ("comment", "begin"),
        [
            ("//", "// BEGIN state-agent: one"),
            ("<!-- -->", "<!-- BEGIN state-agent: one -->"),
            ("/* */", "/* BEGIN state-agent: one */"),
            ("dnl", "dnl BEGIN state-agent: one"),
        ],
    )
    def test_comment_styles(self, path: Path, converge: Converge, comment: str, begin: str) -> None:
        converge(block(path, content="a"))
        change = converge(block(path, content="a", comment=comment))
        assert change and [each.attribute for each in change.attributes] == ["comment"]
        assert path.read_text() == f"first\nsecond\n{begin}\na\n{begin.replace('BEGIN', 'END')}\n"
        assert converge(block(path, content="a", comment=comment)) is None

    def test_indented_ones_are_found(self, path: Path, converge: Converge) -> None:
        path.write_text(f"  {BEGIN}a\n\t{END}")
        assert converge(block(path, content="a")) is None

    @pytest.mark.parametrize("line", [BEGIN, END, "  // BEGIN state-agent: x -->", "# END state-agent: other"])
    def test_content_that_looks_like_one(self, path: Path, host: Host, line: str) -> None:
        assert list(block(path, content=f"a\n{line}").problems())
        with pytest.raises(ResourceError, match="marker"):
            block(path, content=SecretText(("a\n", "s", ""), lambda _: line)).desired(host)

    @pytest.mark.parametrize("name", ["/etc/hosts", "/etc/hosts#", "/etc/hosts#a b", "hosts#a", "/e#a#b", "/e#a\n"])
    def test_names(self, name: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            _path_and_label(name)
        assert _path_and_label("/etc//hosts#a@b.c") == "/etc/hosts#a@b.c"

    @pytest.mark.parametrize("comment", ["", " ", "# ", "# b", "a b c", "#\n"])
    def test_wrong_comment_styles(self, comment: str) -> None:
        with pytest.raises(ValueError, match="comment"):
            _comment_style(comment)

    def test_problems(self, path: Path) -> None:
        assert not list(block(path, content="").problems())
        assert list(block(path).problems())
        assert list(block(path, content="x", ensure="absent").problems())
        assert list(block(path, content="x", after="a", before="b").problems())


class TestSecrets:
    @pytest.mark.parametrize(
        "fields",
        [{"content": "canary-42", "sensitive": True}, {"content": SecretText(("", "s", ""), lambda _: "canary-42")}],
    )
    def test_are_not_shown(self, path: Path, converge: Converge, host: Host, fields: Any) -> None:
        one = block(path, **fields)
        change = converge(one)
        assert "canary-42\n" in path.read_text()
        state = one.read(host)
        assert "canary" not in repr([change, state, one.desired(host)])
        assert one.text_of(state) is None
        with pytest.raises(ResourceError, match="not kept"):
            one.undo(host, {"comment": "#"})


PIECES = [b"a", b"b\xff", b"", b"# c", b"\r", b"x\r", b"\xef\xbb\xbf", BEGIN.replace("one", "two").strip().encode(),
          END.replace("one", "two").strip().encode()]  # fmt: skip


@settings(max_examples=300, deadline=None, database=None)
@given(
    pieces=st.lists(st.sampled_from(PIECES), max_size=8),
    ending=st.sampled_from([b"\n", b"\r\n"]),
    contents=st.lists(st.text("a\r\n \tä", max_size=6), min_size=1, max_size=3),
    place=st.sampled_from([(None, None), ("a", None), (None, "a"), ("x|two", None), (None, "c|b")]),
    comment=st.sampled_from(["#", "<!-- -->"]),
)
def test_all_else_stays_byte_for_byte(
    *, pieces: list[bytes], ending: bytes, contents: list[str], place: Any, comment: str
) -> None:
    text = original = ending.join(pieces)
    for content in contents:
        desired = Block(name="/x#one", content=content, comment=comment).desired(Host())
        assert desired
        text = put(text, "one", desired["content"], comment, after=place[0], before=place[1])
        found = find(text, "one")
        assert found and found.content == desired["content"] and found.comment == comment
        assert put(text, "one", desired["content"], comment, after=None, before=None) == text
        assert drop(text, "one") == original
