"""Errors of filling in, and a secret as expressions see it."""

from __future__ import annotations

from typing import Any

from agent.declaration.lines import KeyPath
from agent.secret import REDACTED, SecretText


class RenderError(Exception):
    """A string or template cannot be filled in.

    `file` and `line` say where in a template file; `at` is the key path of a string inside a value.
    """

    def __init__(self, message: str, *, hint: str = "", file: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.file = file
        self.line = line
        self.at: KeyPath = ()


class SecretValue:
    """A secret, or a text that holds some, in an expression: it can be put into a text, and refuses all else.

    `parts` are those of a SecretText.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: tuple[str, ...]) -> None:
        self.parts = parts

    def as_text(self) -> SecretText:
        """What a field of a resource holds of it."""
        return SecretText(self.parts)

    def refuse(self, *_args: Any, **_kwargs: Any) -> Any:
        """Raise RenderError."""
        raise RenderError(
            f"the secret {self.parts[1]} can only be inserted as it stands",
            hint="no filter, comparison or other operation sees a secret's value",
        )

    __str__ = __repr__ = __len__ = __iter__ = __bool__ = __eq__ = __getitem__ = __contains__ = refuse
    __add__ = __radd__ = __mod__ = __mul__ = __html__ = __int__ = __float__ = __lt__ = __gt__ = __call__ = refuse
    __format__ = __reduce__ = refuse
    __hash__ = None  # type: ignore[assignment]


def readable(value: Any) -> str:
    """A value as a message may show it."""
    return REDACTED if isinstance(value, SecretValue | SecretText) else repr(value)
