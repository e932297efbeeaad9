"""A statement that changes a table, with what it would lose. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Look:
    """A look at the data before a statement: rows that would make it fail, or whose value would not survive it."""

    what: Literal["nulls", "rows", "cast", "values"]
    column: str
    old: str = ""
    new: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL; `loses` says what goes with it, where it drops or narrows something; `look` is done before it."""

    sql: str
    loses: str = ""
    look: Look | None = None
