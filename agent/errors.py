"""Every error that state-agent raises on purpose.

    AgentError                    what a user is told: summary, detail, hint
    ├── DeclarationError          the site is wrong; lists every Problem found       exit 3
    ├── UsageError                the command line is wrong                          exit 3
    ├── LockHeld                  another apply is running                           exit 1
    ├── JournalError              the journal cannot be read or written              exit 1
    └── ResourceError             one resource cannot be read or applied             exit 1
        ├── CommandFailed         a program ended with another status than expected
        ├── Missing               a program, unit or account that is needed is not there (yet)
        ├── NotPermitted          only root may read or change it
        ├── Unanswered            something outside of the host could not be asked
        ├── Degraded              not as declared, but usable: what needs it goes on
        └── KnownAfterApply       the value comes into being during apply

Anything else that escapes is a bug in state-agent.
"""

from __future__ import annotations


class AgentError(Exception):
    """What a user is told: one sentence, then optionally more of it and what to do next."""

    exit_status = 1

    def __init__(self, summary: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(summary)
        self.summary = summary
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        text = self.summary
        if self.detail:
            text += "\n" + self.detail
        if self.hint:
            text += f"\nhint: {self.hint}"
        return text


class Problem:
    """One thing wrong in a declaration: where (file, line, key), what, and what was probably meant."""

    __slots__ = ("file", "hint", "key", "line", "message")

    def __init__(self, message: str, *, file: str = "", line: int = 0, key: str = "", hint: str = "") -> None:
        self.message = message
        self.file = file
        self.line = line
        self.key = key
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        text = ": ".join(part for part in (where, self.key, self.message) if part)
        return f"{text} ({self.hint})" if self.hint else text

    def as_dict(self) -> dict[str, str | int]:
        """The problem as it stands in JSON output."""
        return {slot: getattr(self, slot) for slot in self.__slots__}


class DeclarationError(AgentError):
    """The declarations are wrong; `problems` holds all of them, in the order of files and lines.

    `files` and `listings` (folder and pattern) are what was read: a change there may put it right.
    """

    exit_status = 3

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        self.files: list[str] = []
        self.listings: list[tuple[str, str]] = []
        count = len(problems)
        super().__init__(
            f"{count} {'error' if count == 1 else 'errors'} in the declarations; nothing was touched",
            detail="\n".join(str(problem) for problem in problems),
        )


class UsageError(AgentError):
    """The command line is wrong."""

    exit_status = 3


class LockHeld(AgentError):
    """Another process holds the lock that one apply at a time takes."""


class JournalError(AgentError):
    """The journal cannot be opened, read or written."""


class ResourceError(AgentError):
    """One resource cannot be read or applied; the others go on."""


class CommandFailed(ResourceError):
    """A program ended with a status that was not expected, or did not end in time."""

    def __init__(self, summary: str, *, status: int | None = None, detail: str = "", hint: str = "") -> None:
        super().__init__(summary, detail=detail, hint=hint)
        self.status = status


class Missing(ResourceError):
    """Something that the resource needs is not on the host (yet): a program, a unit, an account, a directory."""


class NotPermitted(ResourceError):
    """The resource can only be read or changed by root."""


class Unanswered(ResourceError):
    """Something outside of the host, such as a nameserver, could not be asked."""


class Degraded(ResourceError):
    """It could not be made as declared, but what is there can be used: what needs it goes on.

    `changed` tells whether anything was changed nevertheless, so that those who listen to it have to know.
    """

    def __init__(self, summary: str, *, changed: bool, detail: str = "", hint: str = "") -> None:
        super().__init__(summary, detail=detail, hint=hint)
        self.changed = changed


class KnownAfterApply(ResourceError):
    """A value that only comes into being during apply, such as a secret that is still to be generated."""
