"""Plans and results as text for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent.engine import Report
from agent.engine.step import BLOCKED, FAILED, IN_DESIRED_STATE, SKIPPED, UNKNOWN, Step
from agent.journal import shown
from agent.report.plain import in_line, visible
from agent.resource import AttributeChange

_SYMBOLS: Mapping[str, str] = {
    "would-add": "+", "added": "+", "would-change": "~", "changed": "~", "would-remove": "-", "removed": "-",
    "would-refresh": ">", "refreshed": ">", UNKNOWN: "?", FAILED: "!", BLOCKED: "!", SKIPPED: ".",
    IN_DESIRED_STATE: "=",
}  # fmt: skip
_COLOURS = {"+": "32", "~": "33", "-": "31", ">": "36", "?": "35", "!": "31;1", ".": "2", "=": "2"}
_COUNTED: Sequence[tuple[str, str]] = (
    ("would-add", "to add"), ("would-change", "to change"), ("would-remove", "to remove"),
    ("would-refresh", "to refresh"), (UNKNOWN, "known after apply"), ("added", "added"), ("changed", "changed"),
    ("removed", "removed"), ("refreshed", "refreshed"), (FAILED, "failed"), (BLOCKED, "blocked"), (SKIPPED, "skipped"),
)  # fmt: skip
_ID_WIDTH = 38
_NEW_LINES = 20


class Style:
    """Colours, where they are wanted."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def paint(self, code: str, text: str) -> str:
        """Text in a colour (a code of ECMA-48 SGR), or as it is."""
        return f"\033[{code}m{text}\033[0m" if self._colour and text else text


def step_lines(step: Step, style: Style, *, verbose: bool = False, brief: bool = False) -> Iterator[str]:
    """The lines of one step: what happens to which resource, and what differs; `brief` cuts long diffs short."""
    symbol = _SYMBOLS[step.outcome]
    head = f"{style.paint(_COLOURS[symbol], symbol)} {in_line(step.id):<{_ID_WIDTH}} {in_line(_remark(step))}"
    yield head.rstrip()
    if step.error and step.outcome in (FAILED, BLOCKED):
        yield from (f"    {visible(line)}" for line in step.error.splitlines())
    if step.change is not None and step.outcome != BLOCKED:
        yield from _attribute_lines(step, style, verbose, brief)
        yield from (f"    {visible(line)}" for text in step.preview for line in text.splitlines())
    if step.refresh_causes and step.outcome not in ("would-refresh", "refreshed"):
        yield f"    then {step.refresh} ({in_line(', '.join(step.refresh_causes))})"


def _remark(step: Step) -> str:
    if step.outcome in ("would-refresh", "refreshed"):
        causes = ", ".join(step.refresh_causes)
        return f"{step.refresh} ({causes} {'changes' if step.outcome == 'would-refresh' else 'changed'})"
    if step.outcome == FAILED:
        return f"failed   {step.entry.source}"
    if step.outcome == BLOCKED:
        return f"blocked  {step.entry.source}"
    drifted = " (drift)" if step.cause == "drift" else ""
    return (step.note or step.entry.source) + drifted


def _attribute_lines(step: Step, style: Style, verbose: bool, brief: bool) -> Iterator[str]:
    change = step.change
    assert change is not None
    if change.actual is not None and change.desired is not None:
        previewed = step.entry.resource.previewed if step.preview else ()
        changes = [each for one in change.attributes if one.attribute not in previewed for each in _parts(one)]
        width = min(40, max([8, *(len(each.attribute) for each in changes)]))
        for each in changes:
            if each.attribute != "content" or step.diff is None:
                yield f"    {in_line(each.attribute):<{width}} {value_text(each.actual)} → {value_text(each.desired)}"
    elif change.actual is None and verbose and not step.preview:
        added = [each for each in change.attributes if each.attribute not in ("type", "content")]
        width = min(40, max([8, *(len(each.attribute) for each in added)]))
        for each in added:
            yield f"    {in_line(each.attribute):<{width}} {value_text(each.desired)}"
    if step.diff is not None and (change.desired is not None or verbose):
        yield "    content"
        yield from _diff_lines(step.diff, style, whole=verbose or (change.actual is not None and not brief))


def _parts(change: AttributeChange) -> Iterator[AttributeChange]:
    """The change itself; of an attribute that is a table, only the keys that differ."""
    actual, desired = change.actual, change.desired
    if not isinstance(actual, Mapping) or not isinstance(desired, Mapping):
        yield change
        return
    for key in [*actual, *(key for key in desired if key not in actual)]:
        if actual.get(key) != desired.get(key):
            yield from _parts(AttributeChange(f"{change.attribute}.{key}", actual.get(key), desired.get(key)))


def _diff_lines(diff: str, style: Style, *, whole: bool) -> Iterator[str]:
    lines = diff.removesuffix("\n").split("\n")
    if len(lines) > 2 and lines[0].startswith("--- ") and lines[1].startswith("+++ "):
        del lines[:2]
    lines = [line for line in lines if not line.startswith(" ")]
    if len(lines) > 1 and lines[0].startswith("@@") and sum(line.startswith("@@") for line in lines) == 1:
        del lines[0]
    limit = len(lines) if whole else _NEW_LINES
    for line in lines[:limit]:
        colour = {"-": "31", "+": "32"}.get(line[:1], "2")
        yield "      " + style.paint(colour, visible(line))
    if len(lines) > limit:
        yield f"      … {len(lines) - limit} more lines (--verbose shows them)"


def value_text(value: Any) -> str:
    """A value in one line, as a plan shows it."""
    value = shown(value)
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(value_text(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{in_line(key)} = {value_text(item)}" for key, item in value.items()) + "}"
    text = in_line(str(value))
    return text if len(text) <= 100 else text[:99] + "…"


def summary_line(report: Report) -> str:
    """The last line: how many of what, and how long it took."""
    counts = report.summary
    unreadable = sum(step.outcome == UNKNOWN and step.error is not None for step in report.steps)
    outside = Counter(step.outcome for step in report.steps if step.outside)
    words = []
    for outcome, word in _COUNTED:
        count = counts.get(outcome, 0) - (unreadable if outcome == UNKNOWN else 0) - outside[outcome]
        if count:
            words.append(f"{count} {word}")
    if unreadable:
        words.append(f"{unreadable} not readable without root")
    if outside[SKIPPED]:
        words.append(f"{outside[SKIPPED]} to do by hand")
    if outside[UNKNOWN]:
        words.append(f"{outside[UNKNOWN]} could not be asked")
    changed = ", ".join(words) or ("nothing changed" if report.mode in ("apply", "rollback") else "nothing to change")
    return f"{changed}; {counts.get(IN_DESIRED_STATE, 0)} in desired state ({report.duration:.2f} s)"


def report_lines(report: Report, style: Style, *, verbose: bool = False) -> Iterator[str]:
    """A whole plan."""
    for step in report.steps:
        if step.outcome != IN_DESIRED_STATE or verbose:
            yield from step_lines(step, style, verbose=verbose)
    yield from closing_lines(report)


def closing_lines(report: Report) -> Iterator[str]:
    """What comes after the steps: notes and the summary."""
    if any(step.outcome != IN_DESIRED_STATE for step in report.steps):
        yield ""
    yield from (f"note: {in_line(note)}" for note in report.notes)
    if report.interrupted:
        undone = sum(step.outcome == SKIPPED and not step.outside for step in report.steps)
        yield f"interrupted: {undone} left undone; run `agent {report.mode}` again to go on"
    yield summary_line(report)
