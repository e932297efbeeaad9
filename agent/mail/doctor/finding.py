"""What the mail test found out about one thing, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

PASSED, FAILED, WARNED, SKIPPED = "passed", "failed", "warned", "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: `seen` says what was found (or why nothing was looked at), `hint` what to do about it."""

    name: str
    outcome: str
    seen: str
    hint: str = ""

    @property
    def id(self) -> str:
        """Its id in all output."""
        return f"mail:{self.name}"


def passed(name: str, seen: str) -> Finding:
    """All is well."""
    return Finding(name, PASSED, seen)


def failed(name: str, seen: str, hint: str) -> Finding:
    """Something does not work, or is not safe."""
    return Finding(name, FAILED, seen, hint)


def warned(name: str, seen: str, hint: str) -> Finding:
    """Something works, but should be looked at; or it cannot be told from here whether it works."""
    return Finding(name, WARNED, seen, hint)


def skipped(name: str, why: str) -> Finding:
    """Nothing was looked at."""
    return Finding(name, SKIPPED, why)
