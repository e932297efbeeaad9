"""Carrying out what changes a table: a look at the data first, then all statements in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from agent.errors import ResourceError
from agent.host.postgres.names import TableName, quote
from agent.host.postgres.session import Session
from agent.host.postgres.statement import Look, Statement
from agent.host.postgres.types import is_text

# What a cast does to a value: it survives where it comes back the same. Of a text that is read as something else only
# the reading must succeed. Types without an equality operator (json, point…) compare as text.
_FITS = """
CREATE FUNCTION pg_temp.state_agent_fits(v {old}) RETURNS boolean LANGUAGE plpgsql AS $fits$
BEGIN
  BEGIN
    {test};
  EXCEPTION WHEN undefined_function THEN
    RETURN (v::{new})::{old}::text IS NOT DISTINCT FROM v::text;
  END;
EXCEPTION WHEN OTHERS THEN
  RETURN false;
END $fits$
"""


def refusals(
    session: Session, name: TableName, statements: Sequence[Statement], *, allow: bool, undoing: bool = False
) -> list[str]:
    """Why these statements are not carried out, a phrase each. Runs in a transaction, and leaves nothing in it.

    What an undo would drop was made by the agent, and goes if nothing has been stored in it since.
    """
    found = []
    for statement in statements:
        count = 0 if statement.look is None else _count(session, name, statement.look)
        if statement.look is not None and count and statement.look.what != "values":
            found.append(_cannot(statement.look, count))
        elif count and undoing:
            found.append(f"it would drop {statement.loses} ({_rows(count)})")
        elif statement.loses and not allow:
            held = f" ({_rows(count)})" if count else ""
            found.append(f"it would drop {statement.loses}{held}, and allow_destructive is not set")
    return found


def _cannot(look: Look, count: int) -> str:
    rows = _rows(count)
    hold = f"{rows} {'holds' if count == 1 else 'hold'}"
    if look.what == "nulls":
        return f"{look.column} cannot become NOT NULL: {hold} NULL there"
    if look.what == "rows":
        return f"{look.column} is NOT NULL and has no default: {rows} would have no value in it"
    return f"{look.column} cannot become {look.new}: {hold} a value that would be lost or cannot be read as one"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _count(session: Session, name: TableName, look: Look) -> int:
    session.run("SAVEPOINT look")
    try:
        if look.what == "cast":
            survives = f"RETURN (v::{look.new})::{look.old} IS NOT DISTINCT FROM v"
            test = f"PERFORM v::{look.new}; RETURN true" if _is_reading(look) else survives
            session.run(_FITS.format(old=look.old, new=look.new, test=test))
        count: int = session.rows(f"SELECT count(*) FROM {name.sql}{_condition(look)}")[0][0]
    finally:
        session.run("ROLLBACK TO look")
    return count


def _is_reading(look: Look) -> bool:
    return is_text(look.old) and not is_text(look.new)


def _condition(look: Look) -> str:
    column = quote(look.column)
    if look.what == "rows" or not look.column:
        return ""
    if look.what == "nulls":
        return f" WHERE {column} IS NULL"
    held = f" WHERE {column} IS NOT NULL"
    if look.what == "cast":
        return f"{held} AND NOT pg_temp.state_agent_fits({column})"
    return f"{held} AND {column}::text IS DISTINCT FROM ({look.new})::text" if look.new else held


def planned_refusals(session: Session, name: TableName, statements: Sequence[Statement], *, allow: bool) -> list[str]:
    """The same while planning: in a transaction of its own that is undone."""
    if not any(statement.look or statement.loses for statement in statements):
        return []
    with session.transaction([name], keep=False):
        return refusals(session, name, statements, allow=allow)


def carry_out(
    session: Session,
    name: TableName,
    statements: Sequence[Statement],
    *,
    allow: bool,
    others: Sequence[TableName] = (),
    undoing: bool = False,
) -> None:
    """Carry all of it out in one transaction, or none.

    Raises ResourceError where it would lose what it must not, where the server refuses a statement, and where one
    of the tables (`others` are those that it refers to) is locked.
    """
    if not allow and any(statement.loses for statement in statements):
        raise _refused(name, planned_refusals(session, name, statements, allow=False), statements)
    with session.transaction([name, *others]):
        todo = list(statements)
        if todo and todo[0].sql.startswith("LOCK"):
            session.run(todo.pop(0).sql)
        reasons = refusals(session, name, todo, allow=allow, undoing=undoing)
        if reasons:
            raise _refused(name, reasons, statements)
        for statement in todo:
            session.run(statement.sql)


def _refused(name: TableName, reasons: Sequence[str], statements: Sequence[Statement]) -> ResourceError:
    destructive = any("allow_destructive" in reason for reason in reasons)
    hint = "set allow_destructive = true to have it done" if destructive else "put the rows right first"
    detail = [*reasons, "it would have been:", *(statement.sql for statement in statements)]
    return ResourceError(f"refused, nothing was changed in {name.sql}", detail="\n".join(detail), hint=hint)
