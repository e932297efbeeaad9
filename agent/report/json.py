"""Plans, results and errors as JSON: one document, version 1."""

from __future__ import annotations

from typing import Any

from agent.engine import Report
from agent.engine.step import Step
from agent.errors import AgentError, DeclarationError
from agent.journal import shown
from agent.report.plain import VERSION


def row(step: Step) -> dict[str, Any]:
    """One resource."""
    changes = step.change.attributes if step.change is not None else ()
    return {
        "id": step.id,
        "state": step.entry.state,
        "source": step.entry.source,
        "outcome": step.outcome,
        "cause": step.cause,
        "changes": [
            {"attribute": each.attribute, "actual": shown(each.actual), "desired": shown(each.desired)}
            for each in changes
        ],
        "diff": step.diff,
        "preview": step.preview or None,
        "refresh": {"action": step.refresh, "causes": step.refresh_causes} if step.refresh_causes else None,
        "note": step.note or None,
        "error": step.error,
        "blocked_by": step.blocked_by,
        "duration_s": round(step.duration, 6),
    }


def report_document(report: Report) -> dict[str, Any]:
    """A whole plan or result."""
    return {
        "version": VERSION,
        "mode": report.mode,
        "site": report.site,
        "run": report.run,
        "duration_s": round(report.duration, 6),
        "converged": report.converged,
        "resources": [row(step) for step in report.steps],
        "summary": report.summary,
        "notes": report.notes,
    }


def error_document(error: AgentError, mode: str) -> dict[str, Any]:
    """What stands in place of a result where there is none."""
    document: dict[str, Any] = {
        "version": VERSION,
        "mode": mode,
        "error": {"summary": error.summary, "detail": error.detail, "hint": error.hint},
    }
    if isinstance(error, DeclarationError):
        document["problems"] = [problem.as_dict() for problem in error.problems]
    return document
