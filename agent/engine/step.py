"""A step: what one resource comes to in one run."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.errors import ResourceError
from agent.graph import Entry
from agent.resource import Change

IN_DESIRED_STATE = "in-desired-state"
UNKNOWN = "unknown"
FAILED = "failed"
BLOCKED = "blocked"
SKIPPED = "skipped"
PLANNED: Mapping[str, str] = {
    "would-add": "added", "would-change": "changed", "would-remove": "removed", "would-refresh": "refreshed",
}  # fmt: skip
"""Outcomes of a plan, and what they become once carried out."""
DONE = frozenset(PLANNED.values())
OUTCOMES = (IN_DESIRED_STATE, *PLANNED, UNKNOWN, *PLANNED.values(), FAILED, BLOCKED, SKIPPED)
_DIFF_LINES = 4000
_LONGEST_ERROR = 16000


@dataclass(slots=True)
class Step:
    """One resource in one run: outcome, why (`cause`: intent, drift, refresh or None), and what differs.

    `preview` is what will be carried out word for word, `note` is a few words for people, `refresh` the word for what a
    refresh does and `refresh_causes` why. `outside` the agent's reach is what only people can put right, and what could
    not be asked: it is shown, but is neither a change to make nor a failure.
    """

    entry: Entry
    outcome: str = IN_DESIRED_STATE
    cause: str | None = None
    change: Change | None = None
    diff: str | None = None
    preview: list[str] = field(default_factory=list)
    note: str = ""
    notes: list[str] = field(default_factory=list)
    refresh: str = ""
    refresh_causes: list[str] = field(default_factory=list)
    error: str | None = None
    blocked_by: list[str] = field(default_factory=list)
    duration: float = 0.0
    outside: bool = False

    @property
    def id(self) -> str:
        """The id of its resource."""
        return self.entry.id

    @property
    def changes_something(self) -> bool:
        """Whether it is planned to change something, or may yet turn out to."""
        return self.outcome in PLANNED or self.outcome == UNKNOWN


def planned_outcome(change: Change) -> str:
    """What a change is called in a plan."""
    if change.actual is None:
        return "would-add"
    return "would-remove" if change.desired is None else "would-change"


def text_diff(id: str, before: bytes | None, after: bytes | None, encoding: str = "utf-8") -> str | None:
    """A unified diff of two contents, None where there is nothing to show; binary content is only said to differ."""
    if before is None or after is None or before == after:
        return None
    name = id.partition(":")[2].replace("\n", "\\n")
    binary = f"binary content differs: {len(before)} bytes → {len(after)} bytes\n"
    # To decode what is not of the encoding takes a second for every two megabytes.
    if encoding == "utf-8" and (b"\0" in before or b"\0" in after):
        return binary
    # Bytes that are not of the encoding are shown as escapes: an old file in another one can still be compared.
    old, new = before.decode(encoding, "backslashreplace"), after.decode(encoding, "backslashreplace")
    if "\0" in old or "\0" in new:
        return binary
    old_lines, new_lines = _lines(old), _lines(new)
    if len(old_lines) + len(new_lines) > _DIFF_LINES * 10:
        return f"too large to compare by line: {len(old_lines)} lines → {len(new_lines)} lines\n"
    lines = []
    for line in difflib.unified_diff(old_lines, new_lines, f"{name} (actual)", f"{name} (desired)"):
        lines.append(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n")
        if len(lines) == _DIFF_LINES:
            lines.append("… (more lines differ)\n")
            break
    return "".join(lines)


def _lines(text: str) -> list[str]:
    """Lines with their ends; only a newline ends one, not what Unicode calls a separator too."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def diff_of(resource: Any, change: Change) -> str | None:
    """The text diff of a resource's change, None where it has none or it must not be seen."""
    before = resource.text_of(change.actual) if change.actual is not None else b""
    after = resource.text_of(change.desired) if change.desired is not None else b""
    return text_diff(resource.id, before, after, getattr(resource, "encoding", "utf-8"))


def as_resource_error(error: Exception) -> ResourceError:
    """What went wrong, as an error of the one resource that it went wrong with: the others go on."""
    if isinstance(error, ResourceError):
        if len(error.detail) > _LONGEST_ERROR:
            error.detail = "… " + error.detail[-_LONGEST_ERROR:]
        return error
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return ResourceError(f"{where}{error.strerror or error}")
    hint = "this is a bug in state-agent; --debug shows where it happened"
    return ResourceError(f"internal error: {type(error).__name__}: {error}", hint=hint)
