"""The parsers of fields and parameters: what they make of a text (what they refuse is tested from outside too)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import fields


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("1h30m", 5400), ("500ms", 0.5), ("2min", 120), ("1w", 604800), ("0.5d", 43200), ("1m1s1ms", 61.001)],
)
def test_durations(text: str, seconds: float) -> None:
    assert fields.seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "count"),
    [("4096", 4096), ("25MB", 25 * 10**6), ("512KiB", 2**19), ("1.5 GiB", 3 * 2**29), ("1g", 10**9), ("0.1k", 100),
     ("999999999999999TiB", 999999999999999 * 2**40), ("1b", 1), ("0.3", 0)],
)  # fmt: skip
def test_sizes(text: str, count: int) -> None:
    assert fields.byte_count(text) == count


@pytest.mark.parametrize(
    ("text", "path"),
    [("/", "/"), ("//", "/"), ("/a//b/./c/", "/a/b/c"), ("/a/...", "/a/..."), ("/a b", "/a b"), ("/.", "/")],
)
def test_paths_have_one_spelling(text: str, path: str) -> None:
    assert fields.absolute_path(text) == path
    assert fields.absolute_path(path) == path


@pytest.mark.parametrize("mode", ["644", "0644", "4755", "000"])
def test_modes(mode: str) -> None:
    assert fields.file_mode(mode) == mode.rjust(4, "0")


@pytest.mark.parametrize("mode", ["64", "0648", "00644", "u+x", "0o644", "", "٠644", "-644", "8000"])
def test_what_is_no_mode(mode: str) -> None:
    with pytest.raises(ValueError, match="is not a mode"):
        fields.file_mode(mode)


@pytest.mark.parametrize("name", ["root", "_apt", "www-data", "machine$", "A1"])
def test_account_names(name: str) -> None:
    assert fields.account_name(name) == name


@pytest.mark.parametrize("name", ["", "1a", "a b", "a:b", "-a", "a" * 33, "ſa", "a\n", "0"])
def test_what_is_no_account_name(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name"):
        fields.account_name(name)


def test_commands_and_regular_expressions() -> None:
    assert fields.argv(["true", ""]) == ["true", ""]
    for words in ([], [""], ["a", "b\0"]):
        with pytest.raises(ValueError, match=r"command|argument"):
            fields.argv(words)
    assert fields.regex("^a+$") == "^a+$"
    with pytest.raises(ValueError, match="is not a regular expression"):
        fields.regex("(")


@given(st.text(max_size=30))
def test_whatever_is_given_a_parser_takes_it_or_says_what_is_right(text: str) -> None:
    parsers = (
        fields.seconds, fields.byte_count, fields.absolute_path, fields.file_mode, fields.hostname, fields.email,
        fields.cidr, fields.account_name, fields.regex,
    )  # fmt: skip
    for parse in parsers:
        try:
            parse(text)
        except ValueError as error:
            assert str(error)
