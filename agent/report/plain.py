"""Text that takes nothing of the engine to write: what asks the resident agent must answer at once."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

VERSION = 1
"""Of the JSON documents."""

# Control characters, and what turns the direction of a text or is not seen at all (Unicode TR 36).
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def visible(text: str) -> str:
    """Text without control characters, which a file's content could use to play tricks on a terminal."""
    return _CONTROL.sub(_escaped, text)


def in_line(text: str) -> str:
    """The same in one line and one column."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def moment(seconds: float | None) -> str:
    """A point in time in the host's own time zone."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S") if seconds else "never"


def status_line(row: Mapping[str, Any]) -> str:
    """One resource as the resident agent knows it."""
    words = [] if row["outcome"] == "in-desired-state" else [row["outcome"]]
    if row["repairs"]:
        times = "once" if row["repairs"] == 1 else f"{row['repairs']} times"
        words.append(f"repaired {times}, last {moment(row['last_drift'])}")
    elif row["last_drift"]:
        words.append(f"drifted, last {moment(row['last_drift'])}")
    words += ["contested"] * row["contested"]
    why = row["error"] or row["note"] or ""
    return in_line(f"  {row['id']:<40} {', '.join(words)}{': ' + why.splitlines()[0] if why else ''}")


def dumps(document: Any) -> str:
    """The document as text, which can be printed in any encoding."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return json.dumps(document, indent=1, ensure_ascii=not unicode, default=str)
