"""The journal as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.report.plain import in_line, moment, visible
from agent.report.text import Style, value_text

_SYMBOLS = {"add": "+", "change": "~", "remove": "-", "refresh": ">"}


def run_line(run: Mapping[str, Any]) -> str:
    """One run in one line."""
    counts = [f"{count} {outcome.replace('-', ' ')}" for outcome, count in run["summary"].items()]
    duration = f"{run['duration_s']:.2f} s" if run["duration_s"] is not None else ""
    number = len(run["changes"])
    words = ", ".join(counts) or f"{number} change{'s' * (number != 1)}"
    return f"{run['run']:>5}  {moment(run['started'])}  {run['outcome']:<11} {duration:>9}  {words}"


def change_lines(change: Mapping[str, Any], style: Style) -> Iterator[str]:
    """One change of a run."""
    outcome = "" if change["outcome"] == "done" else f"  {change['outcome']}"
    duration = f"  {change['duration_s']:.2f} s" if change["duration_s"] is not None else ""
    symbol = _SYMBOLS.get(change["action"], "!")
    why = change["cause"] or change["action"]
    yield f"       {symbol} {in_line(change['resource']):<38} {why}{outcome}{duration}"
    for each in change["changes"]:
        if each["attribute"] != "content" or not change["diff"]:
            attribute = in_line(each["attribute"])
            yield f"           {attribute} {value_text(each['actual'])} → {value_text(each['desired'])}"
    diff = (change["diff"] or "").removesuffix("\n")
    for line in diff.split("\n") if diff else ():
        colour = {"-": "31", "+": "32", "@": "2"}.get(line[:1], "0")
        yield "           " + style.paint(colour, visible(line))
    for line in (change["error"] or "").splitlines():
        yield "           " + visible(line)
