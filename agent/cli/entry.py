"""Where the `agent` command begins: what is to be said at once, or stays for long, is done without the command line.

To import click takes longer than such an answer, and a twelfth of the resident agent's memory. Whatever is not as plain
as what is told apart here goes to `agent.cli.main`, which knows all options, and what is wrong with them.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING

import agent
from agent.cli.surroundings import leave, prepare

if TYPE_CHECKING:
    from agent.cli.common import Common

_FLAGS = {"--json": "as_json", "--quiet": "quiet", "-q": "quiet", "--verbose": "verbose", "-v": "verbose",
          "--no-color": "no_color"}  # fmt: skip
_TAKE_A_WORD = {"--site": "site", "--state-dir": "state_dir"}
_PLAIN = _CHECK, _STATUS, _WATCH = ["apply", "--check"], ["status"], ["watch"]


def main() -> None:
    """Run the command line and exit with its status."""
    _speak_utf8()
    prepare()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    status = _plainly(sys.argv[1:]) if "_AGENT_COMPLETE" not in os.environ else None
    if status is None:
        from agent.cli.main import main as understand

        understand()
        return
    leave(status)


def _speak_utf8() -> None:
    """Start again in UTF-8 mode where the locale would have names of files written in another encoding."""
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONUTF8": "1"})


def _plainly(words: Sequence[str]) -> int | None:
    """Do what these words say, if that is plain; gives the exit status, None where it is not."""
    if words == ["--version"]:
        with contextlib.suppress(OSError):  # which is told by the exit status
            print(f"agent {agent.__version__}")
            return 0
        return 1
    command = next((plain for plain in _PLAIN if words[: len(plain)] == plain), None)
    common = _common(words[len(command) :]) if command else None
    if command is None or common is None:
        return None
    try:
        return _done(command, common)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - told as of any command
        from agent.cli.main import told

        return told(error, list(sys.argv[1:]))


def _done(command: Sequence[str], common: Common) -> int | None:
    if command == _CHECK:
        from agent.cli.look import look

        return look(common)
    if command == _STATUS:
        from agent.cli.live import told_live

        status = told_live(common)
        sys.stdout.flush()
        return status
    from agent.cli.residence import stay

    return stay(common)


def _common(words: Sequence[str]) -> Common | None:
    given: dict[str, str | bool] = {}
    rest = iter(words)
    for word in rest:
        if word in _FLAGS:
            given[_FLAGS[word]] = True
        elif word in _TAKE_A_WORD and (value := next(rest, "")) and not value.startswith("-"):
            given[_TAKE_A_WORD[word]] = value
        else:
            return None
    from agent.cli.common import Common

    return Common(**given)  # type: ignore[arg-type]
