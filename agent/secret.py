"""Values that cannot print themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

REDACTED = "(sensitive)"


class Secret:
    """A value that must not be seen: compares by value, prints as `(sensitive)`, and refuses to be pickled."""

    __slots__ = ("_value",)

    def __init__(self, value: str | bytes) -> None:
        self._value = value

    def reveal(self) -> str | bytes:
        """The value itself, for the one place that needs it."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(REDACTED, spec)

    def __reduce__(self) -> Any:
        raise TypeError("a secret is never pickled")


class SecretText:
    """A declared text in which secrets stand: plain parts and names of secrets, put together only when it is used.

    `parts` alternates plain text (even places) and names of secrets (odd places). `resolve` turns a name
    into its value; it raises KnownAfterApply for a secret that is still to be generated.
    """

    __slots__ = ("_resolve", "parts")

    def __init__(self, parts: tuple[str, ...], resolve: Callable[[str], str] | None = None) -> None:
        self.parts = parts
        self._resolve = resolve

    @property
    def names(self) -> tuple[str, ...]:
        """The secrets that stand in it."""
        return self.parts[1::2]

    def bound(self, resolve: Callable[[str], str]) -> SecretText:
        """The same text with a way to look its secrets up."""
        return SecretText(self.parts, resolve)

    def reveal(self) -> str:
        """The text with its secrets in place.

        Raises KnownAfterApply or ResourceError where a secret cannot be had (yet).
        """
        if self._resolve is None:
            raise RuntimeError("a secret text was used before it was bound to its secrets")
        return "".join(self._resolve(part) if i % 2 else part for i, part in enumerate(self.parts))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretText) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)

    def __repr__(self) -> str:
        return REDACTED

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.is_instance_schema(cls, cls_repr="a secret")
