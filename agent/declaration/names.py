"""The names that expressions read, and the Jinja2 environment that reads them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from types import GeneratorType
from typing import Any

import jinja2

from agent.declaration.document import nearest
from agent.declaration.secretvalue import RenderError, SecretValue
from agent.fields import byte_count, seconds

_LONGEST_RANGE = 100_000


class Unavailable(jinja2.TemplateRuntimeError):
    """A value is used that is itself wrong and was reported where it stands."""


def broken() -> jinja2.Undefined:
    """Stands for a value that is wrong and was reported already: whatever uses it is not reported again."""
    return jinja2.StrictUndefined(exc=Unavailable)


class Namespace:
    """A table of names that an expression reads with a dot; `what` says in errors what the names are."""

    __slots__ = ("names", "what")

    def __init__(self, what: str, names: Mapping[str, Any]) -> None:
        self.what = what
        self.names = names

    def missing(self, name: str) -> str:
        """What to say of a name that is not there."""
        hint = nearest(name, self.names)
        return f'{self.what} "{name}"' + (f" ({hint})" if hint else "")

    def refuse(self) -> Any:
        """Raise RenderError: a namespace is no value."""
        raise RenderError("is not a value, but a table of names", hint=f"one of them: {', '.join(self.names)}")

    __str__ = __repr__ = refuse


class _Strict(jinja2.StrictUndefined):
    __slots__ = ()

    def __init__(
        self, hint: str | None = None, obj: Any = jinja2.utils.missing, name: str | None = None, **more: Any
    ) -> None:
        if isinstance(obj, Namespace) and name is not None:
            hint = obj.missing(str(name))
        elif isinstance(obj, Mapping) and name is not None:
            close = nearest(str(name), map(str, obj))
            hint = f'the table has no "{name}"' + (f" ({close})" if close else "")
        super().__init__(hint, obj, name, **more)


class Marks:
    """Marks stand for secrets in a text while it is put together. They cannot be guessed, so no value can hold one."""

    def __init__(self) -> None:
        self._nonce = secrets.token_hex(8)
        self._given: list[tuple[str, ...]] = []

    def mark(self, parts: tuple[str, ...]) -> str:
        """The mark of a text with secrets."""
        self._given.append(parts)
        return f"\0{self._nonce}{len(self._given) - 1}\0"

    def resolved(self, text: str) -> str | SecretValue:
        """A text with its marks replaced. Raises RenderError where something was done to a mark."""
        if self._nonce not in text.lower():
            return text
        first, *pieces = text.split(f"\0{self._nonce}")
        parts = [first]
        for piece in pieces:
            number, _, after = piece.partition("\0")
            if number.isdecimal() and int(number) < len(self._given):
                inserted = self._given[int(number)]
                parts[-1] += inserted[0]
                parts += inserted[1:]
            parts[-1] += after if number.isdecimal() else piece
        if any(self._nonce in part.lower() or "\0" in part for part in parts[::2]) or len(parts) == 1:
            SecretValue(self._given[-1]).refuse()
        return SecretValue(tuple(parts))


class Environment(jinja2.Environment):
    """Jinja2 with the rules of this language: keys before methods, no private attributes, secrets only inserted."""

    def __init__(self, marks: Marks, **options: Any) -> None:
        self._marks = marks
        super().__init__(
            undefined=_Strict, finalize=self._inserted, keep_trailing_newline=True, autoescape=False, **options
        )
        for name, parse in (("seconds", seconds), ("bytes", byte_count)):
            self.filters[name] = _of_text(name, parse)
        self.filters["subelements"] = _subelements
        del self.globals["lipsum"], self.filters["random"]  # the same site always gives the same result

    def _inserted(self, value: Any) -> Any:
        if value is None:
            raise RenderError("comes to nothing (none), which cannot stand in a text")
        return self._marks.mark(value.parts) if isinstance(value, SecretValue) else value

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`obj.attribute`: the key of a table before its methods."""
        return self._got(obj, attribute, super().getattr)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[argument]`."""
        return self._got(obj, argument, super().getitem)

    def _got(self, obj: Any, name: Any, otherwise: Callable[[Any, Any], Any]) -> Any:
        if isinstance(obj, SecretValue):
            obj.refuse()
        if isinstance(obj, Namespace):
            return obj.names[name] if name in obj.names else self.undefined(obj=obj, name=name)
        if isinstance(obj, Mapping) and isinstance(name, str) and name in obj:
            return obj[name]
        if isinstance(name, str) and name.startswith("_"):
            return self.undefined(obj=obj, name=name)
        return otherwise(obj, name)

    def join_path(self, template: str, parent: str) -> str:
        """Templates are named by their paths; one that another includes lies beside that one."""
        if not isinstance(template, str):  # an undefined name, or no name at all
            raise RenderError(f"the name of a template must be a text, not {template!s:.40}")
        return os.path.normpath(os.path.join(os.path.dirname(parent), template))


def _of_text(name: str, parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    def parsed(value: Any) -> Any:
        if isinstance(value, SecretValue):
            value.refuse()
        if not isinstance(value, str):
            raise RenderError(f"the filter {name} is for texts, not for {value!r}")
        return parse(value)

    return parsed


def _subelements(tables: Any, key: Any) -> list[tuple[Any, Any]]:
    """Of tables with a list under a key, each table with each item of its list."""
    if isinstance(tables, SecretValue):
        tables.refuse()
    return [(table, item) for table in tables for item in table.get(key, [])]


def plain(value: Any) -> Any:
    """The result of an expression in the types that TOML has. Raises RenderError for what is no value."""
    if isinstance(value, jinja2.Undefined):
        str(value)  # raises
    if isinstance(value, str):
        return str.__str__(value)  # Jinja2's own kind of text is a subclass
    if isinstance(value, Mapping):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, range) and len(value) > _LONGEST_RANGE:
        raise RenderError(f"has {len(value)} items; {_LONGEST_RANGE} are the most")
    if isinstance(value, list | tuple | range | GeneratorType | Iterator) or type(value).__name__.startswith("dict_"):
        return [plain(item) for item in value]
    if isinstance(value, Namespace):
        value.refuse()
    if callable(value) and not isinstance(value, SecretValue):
        raise RenderError(f"comes to a {type(value).__name__.replace('_', ' ')}, which is no value")
    return value


def _key(key: Any) -> str:
    if isinstance(key, SecretValue):
        key.refuse()
    return key if isinstance(key, str) else str(key)
