"""Parameters of states: what a site may set, typed and documented."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent import fields
from agent.declaration.document import Document, nearest
from agent.declaration.lines import KeyPath
from agent.errors import Problem


@dataclass(frozen=True)
class ParameterType:
    """A type of parameters: the Python types that TOML gives for it, its name in messages, its parser, its size."""

    accepts: tuple[type, ...]
    words: str
    parse: Callable[[Any], Any] | None = None
    measure: Callable[[Any], float] | None = None

    def check(self, value: Any) -> Any:
        """The value as it is kept; raises ValueError with a sentence."""
        if not isinstance(value, self.accepts) or (isinstance(value, bool) and bool not in self.accepts):
            raise ValueError(f"must be {self.words}, not {toml_type(value)}")
        return self.parse(value) if self.parse else value


def _checked(parse: Callable[[str], Any]) -> Callable[[str], str]:
    return lambda text: (parse(text), text)[1]


TYPES = {
    "string": ParameterType((str,), "a string", measure=len),
    "int": ParameterType((int,), "a whole number", measure=float),
    "bool": ParameterType((bool,), "true or false"),
    "path": ParameterType((str,), "an absolute path", fields.absolute_path),
    "hostname": ParameterType((str,), "a host name", fields.hostname),
    "email": ParameterType((str,), "a mail address", fields.email),
    "port": ParameterType((int,), "a port number", fields.port, measure=float),
    "duration": ParameterType((str,), 'a duration such as "5m"', _checked(fields.seconds), fields.seconds),
    "size": ParameterType((str,), 'a size such as "25MB"', _checked(fields.byte_count), fields.byte_count),
    "cidr": ParameterType((str,), 'a network such as "192.0.2.0/24"', fields.cidr),
    "list": ParameterType((list,), "a list", measure=len),
    "table": ParameterType((dict,), "a table"),
    "choice": ParameterType((str, int), "one of its choices"),
}
_KEYS = ("type", "doc", "default", "min", "max", "choices", "of")
MISSING: Any = object()


@dataclass(frozen=True)
class Parameter:
    """One parameter of a state. `minimum` and `maximum` bound the number, the length, the seconds or the bytes."""

    name: str
    type: str
    document: Document
    doc: str = ""
    default: Any = MISSING
    minimum: Any = None
    maximum: Any = None
    choices: tuple[Any, ...] = ()
    of: str | None = None

    @property
    def path(self) -> KeyPath:
        """Its key in the document."""
        return ("parameters", self.name)

    def check(self, value: Any) -> Any:
        """The value as templates see it; raises ValueError with a sentence about what is wrong."""
        if self.choices and value not in self.choices:
            hint = nearest(value, map(str, self.choices)) if isinstance(value, str) else ""
            choices = ", ".join(map(str, self.choices))
            raise ValueError(f"must be one of {choices}, not {value!r}" + (f" ({hint})" if hint else ""))
        kept = TYPES[self.type].check(value)
        if self.of is not None:
            kept = [self._item(i, item) for i, item in enumerate(kept)]
        self._check_bounds(kept)
        return kept

    def _item(self, index: int, item: Any) -> Any:
        try:
            return TYPES[self.of or "string"].check(item)
        except ValueError as error:
            raise ValueError(f"[{index}] {error}") from None

    def _check_bounds(self, value: Any) -> None:
        measure = TYPES[self.type].measure
        if measure is None:
            return
        size = measure(value)
        what = "have a length of" if measure is len else "be"
        shown = size if measure is len else value
        if self.minimum is not None and size < self.limit(self.minimum):
            raise ValueError(f"must {what} at least {self.minimum}, not {shown}")
        if self.maximum is not None and size > self.limit(self.maximum):
            raise ValueError(f"must {what} at most {self.maximum}, not {shown}")

    def limit(self, bound: Any) -> float:
        """A bound as the number that values are measured in; raises ValueError where it is none."""
        measure = TYPES[self.type].measure
        try:
            return float(bound) if measure is len or measure is None else measure(bound)
        except (TypeError, AttributeError):
            raise ValueError(f"{bound!r} is no bound for a {self.type}") from None


def toml_type(value: Any) -> str:
    """What TOML calls a value, with the value itself where it is short."""
    names = {bool: "a boolean", str: "a string", int: "an integer", float: "a float", list: "a list", dict: "a table"}
    name = names.get(type(value), f"a {type(value).__name__}")
    if isinstance(value, bool):
        return f"{name} ({str(value).lower()})"
    return f"{name} ({value!r})" if isinstance(value, str | int | float) and len(repr(value)) < 40 else name


def read_parameters(document: Document, problems: list[Problem]) -> dict[str, Parameter]:
    """The parameters that a document declares; what is wrong with them goes to `problems`."""
    tables = document.data.get("parameters", {})
    if not isinstance(tables, dict):
        problems.append(document.problem("must be tables: [parameters.NAME]", ("parameters",)))
        return {}
    found = {}
    for name, table in tables.items():
        path = ("parameters", name)
        if not isinstance(table, dict):
            problems.append(document.problem("must be a table with at least a type", path))
        elif not name.isidentifier():
            problems.append(document.problem("a parameter's name is made of letters, digits and _", path))
        elif (parameter := _read(document, name, table, problems)) is not None:
            found[name] = parameter
    return found


def _read(document: Document, name: str, table: dict[str, Any], problems: list[Problem]) -> Parameter | None:
    path = ("parameters", name)
    before = len(problems)
    for key in table:
        if key not in _KEYS:
            problems.append(document.problem("unknown key", (*path, key), hint=nearest(key, _KEYS)))
    kind, of, choices = table.get("type"), table.get("of"), table.get("choices", [])
    if not isinstance(kind, str) or kind not in TYPES:
        message = f'"{kind}" is no type' if kind else "needs a type"
        hint = nearest(str(kind), TYPES) or f"one of {', '.join(TYPES)}"
        problems.append(document.problem(message, (*path, "type"), hint=hint))
        return None
    if of is not None and (of not in TYPES or kind != "list"):
        problems.append(document.problem("`of` names the type of a list's items", (*path, "of")))
    if not isinstance(choices, list) or (kind == "choice" and not choices):
        problems.append(document.problem("a choice needs choices = [...]", path))
    if not isinstance(table.get("doc", ""), str):
        problems.append(document.problem("must be a string", (*path, "doc")))
    if len(problems) > before:
        return None
    parameter = Parameter(
        name,
        kind,
        document,
        table.get("doc", ""),
        table.get("default", MISSING),
        table.get("min"),
        table.get("max"),
        tuple(choices),
        of,
    )
    for key in ("min", "max"):
        try:
            parameter.limit(table[key]) if key in table else None
        except ValueError as error:
            problems.append(document.problem(str(error), (*path, key)))
            return None
    return parameter
