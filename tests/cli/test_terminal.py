"""On a terminal: colours, and progress on stderr after a second."""

from __future__ import annotations

import time

import pytest
from outside import on_terminal
from sitefolder import SiteFolder

COLOUR = "\033[3"


def test_colours_only_on_a_terminal(site: SiteFolder) -> None:
    site.write("site.toml", '[file."HOST/a"]\ncontent = "a\\n"\n')
    code, out, err = on_terminal(site, "apply", "--check")
    assert (code, err) == (2, "")
    assert f"{COLOUR}2m+\033[0m" in out
    assert "\033" not in site.run("apply", "--check").out


@pytest.mark.parametrize(
    ("words", "extra"),
    [(["--no-color"], {}), ([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"}), (["--json"], {})],
)
def test_no_colours_where_they_are_not_wanted(site: SiteFolder, words: list[str], extra: dict[str, str]) -> None:
    site.write("site.toml", '[file."HOST/a"]\ncontent = "a\\n"\n')
    for command in (["apply", "--check"], ["show"], ["apply"], ["log", "1"], ["status"]):
        _, out, err = on_terminal(site, *command, *words, extra=extra)
        assert out
        assert "\033" not in out + err
    assert COLOUR in on_terminal(site, "log", "1", extra={"NO_COLOR": ""})[1]


@pytest.mark.parametrize("how", ["run", "unless"])
def test_progress_after_a_second(site: SiteFolder, how: str) -> None:
    slow = '["sh", "-c", "sleep 1.8; exit 1"]'
    quick = '["false"]'
    site.write(
        "site.toml",
        f"[command.slow]\nrun = {slow if how == 'run' else quick}\nunless = {slow if how == 'unless' else quick}\n",
    )
    started = time.monotonic()
    code, out, err = on_terminal(site, "apply")
    assert code == 1
    assert time.monotonic() - started > 1.5
    assert "command:slow" in err
    assert "command:slow" in out
    assert err.rstrip().endswith(("\033[?25h", "\033[2K")) or "\033[?25h" in err  # the cursor is back


def test_no_progress_within_a_second_and_none_when_quiet(site: SiteFolder) -> None:
    site.write("site.toml", '[command.quick]\nrun = ["true"]\n')
    assert on_terminal(site, "apply")[2] == ""
    site.write("site.toml", '[command.slow]\nrun = ["sleep", "1.5"]\n')
    assert on_terminal(site, "apply", "--quiet")[1:] == ("", "")
    site.write("site.toml", '[command.slow]\nrun = ["sleep", "1.4"]\n')
    assert on_terminal(site, "apply", "--json")[2] == ""
    site.write("site.toml", '[command.slow]\nrun = ["sleep", "1.3"]\n')
    assert site.run("apply").err == ""  # no terminal
