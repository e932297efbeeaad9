"""What PostgreSQL complains of, as errors for users. Nothing of a row's content gets into them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.errors import Missing, ResourceError

if TYPE_CHECKING:
    import psycopg

LOCK_NOT_AVAILABLE = "55P03"
_MISSING = ("42P01", "42704", "42883", "3F000", "3D000")
"""No such table, object (a type, role, operator class…), function, schema, database."""
_INTEGRITY = "23"
_VALUES = re.compile(r"\((.*?)\)=\(.*\)", re.DOTALL)


class Refused(ResourceError):
    """The server refused a statement; `sqlstate` says why (appendix A of its manual)."""

    def __init__(self, summary: str, *, sqlstate: str, detail: str = "", hint: str = "") -> None:
        super().__init__(summary, detail=detail, hint=hint)
        self.sqlstate = sqlstate


def translated(error: psycopg.Error, *, hidden: bool = False) -> ResourceError:
    """The error for users. `hidden` leaves everything out that could repeat a value."""
    diag = error.diag
    state = error.sqlstate or ""
    if not state:
        return ResourceError(f"the connection to PostgreSQL broke: {_first_line(str(error))}")
    if hidden:
        return Refused(_without_values(error), sqlstate=state)
    summary = diag.message_primary or _first_line(str(error))
    if state.startswith(_INTEGRITY) and diag.message_detail:
        detail = _VALUES.sub(r"(\1)", diag.message_detail)
        detail = "" if detail.startswith("Failing row contains") else detail
    else:
        detail = diag.message_detail or ""
    if state.startswith("42") and not detail:
        detail = next((line for line in str(error).splitlines() if line.startswith("LINE ")), "").partition(": ")[2]
    if state in _MISSING:
        return Missing(summary, detail=detail, hint=diag.message_hint or "")
    if state == "57014" and "statement timeout" in summary:
        summary = "PostgreSQL took too long, and was stopped (statement_timeout)"
    return Refused(summary, sqlstate=state, detail=detail, hint=diag.message_hint or "")


def _without_values(error: psycopg.Error) -> str:
    diag = error.diag
    what = re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__).lower()
    named = {"table": diag.table_name, "column": diag.column_name, "constraint": diag.constraint_name}
    where = ", ".join(f"{word} {name}" for word, name in named.items() if name)
    about = f" ({where})" if where else ""
    return f"PostgreSQL refused it: {what}{about}; its message is not shown, as it could hold a sensitive value"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
