"""Parameters of states: what a site may set, typed and documented."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent import fields
from agent.declaration.document import Document, nearest
from agent.declaration.lines import KeyPath
from agent.declaration.secretvalue import SecretValue
from agent.errors import Problem
from agent.secret import SecretText


@dataclass(frozen=True)
class ParameterType:
    """A type of parameters: the Python types that TOML gives for it, its name in messages, its parser, its size."""

    accepts: tuple[type, ...]
    words: str
    parse: Callable[[Any], Any] | None = None
    measure: Callable[[Any], float] | None = None

    @property
    def bound(self) -> ParameterType:
        """The type of its min and max."""
        return TYPES["int"] if self.measure is len else self

    def check(self, value: Any) -> Any:
        """The value as it is kept; raises ValueError with a sentence."""
        if not isinstance(value, self.accepts) or (isinstance(value, bool) and bool not in self.accepts):
            raise ValueError(f"must be {self.words}, not {toml_type(value)}")
        return self.parse(value) if self.parse else value


def _checked(parse: Callable[[str], Any]) -> Callable[[str], str]:
    return lambda text: (parse(text), text)[1]


def _number(value: int) -> int:
    return value


TYPES = {
    "string": ParameterType((str,), "a string", measure=len),
    "int": ParameterType((int,), "a whole number", measure=_number),
    "bool": ParameterType((bool,), "true or false"),
    "path": ParameterType((str,), "an absolute path", fields.absolute_path),
    "hostname": ParameterType((str,), "a host name", fields.hostname),
    "email": ParameterType((str,), "a mail address", fields.email),
    "port": ParameterType((int,), "a port number", fields.port, measure=_number),
    "duration": ParameterType((str,), 'a duration such as "5m"', _checked(fields.seconds), fields.seconds),
    "size": ParameterType((str,), 'a size such as "25MB"', _checked(fields.byte_count), fields.byte_count),
    "cidr": ParameterType((str,), 'a network such as "192.0.2.0/24"', fields.cidr),
    "list": ParameterType((list,), "a list", measure=len),
    "table": ParameterType((dict,), "a table"),
    "choice": ParameterType((str, int), "one of its choices"),
}
_KEYS = ("type", "doc", "default", "min", "max", "choices", "of", "fields", "refuse")
_KEYS_OF_FIELD = ("type", "doc", "min", "max", "choices", "of", "required")
_KEYS_OF_RULE = ("for_each", "when", "message")
_WITHOUT_CHOICES = ("bool", "list", "table")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED = ("facts", "secrets", "states", "item", "true", "false", "none", "True", "False", "None", "not", "and", "or",
            "in", "is", "if", "else", "loop", "self", "super", "caller", "varargs", "kwargs")  # fmt: skip
"""Names that mean something else to an expression or a template."""
MISSING: Any = object()


class WrongFields(ValueError):
    """What is wrong with tables in a value: places within it, sentences and hints."""

    def __init__(self, found: list[tuple[KeyPath, str, str]]) -> None:
        super().__init__("; ".join(message for _, message, _ in found))
        self.found = found


@dataclass(frozen=True)
class Parameter:
    """One parameter of a state, or one field of the tables that it takes.

    `minimum` and `maximum` bound the number, the length, the seconds or the bytes. With `fields`, a table (or each one
    of a list) has these and no others; those that are not `required` may be left out.
    """

    name: str
    type: str
    document: Document
    doc: str = ""
    default: Any = MISSING
    minimum: Any = None
    maximum: Any = None
    choices: tuple[Any, ...] = ()
    of: str | None = None
    fields: Mapping[str, Parameter] = field(default_factory=dict)
    required: bool = False
    refuse: tuple[Mapping[str, Any], ...] = ()
    """Rules by which a value of the right type is wrong all the same: tables of `for_each`, `when` and `message`."""
    within: KeyPath = ("parameters",)
    wrong: bool = False
    """Its declaration is wrong and was reported: it has no value, and nobody is told so again."""

    @property
    def path(self) -> KeyPath:
        """Its key in the document."""
        return (*self.within, self.name)

    def check(self, value: Any) -> Any:
        """The value as templates see it; raises ValueError with a sentence about what is wrong."""
        if isinstance(value, SecretValue) and self.type == "string" and not self.choices:
            return value
        if self.choices:
            self._check_choice(value)
        kept = TYPES[self.type].check(value)
        if self.of is not None:
            kept = [self._item(i, item) for i, item in enumerate(kept)]
        self._check_bounds(kept)
        if self.fields and (wrong := list(self._wrong_fields(kept))):
            raise WrongFields(wrong)
        return kept

    def _wrong_fields(self, value: Any) -> Iterator[tuple[KeyPath, str, str]]:
        tables: list[tuple[KeyPath, dict[str, Any]]] = [((), value)]
        if isinstance(value, list):
            tables = [((i,), item) for i, item in enumerate(value)]
        for at, table in tables:
            for key in table.keys() - self.fields.keys():
                hint = nearest(key, self.fields) or f"its keys are {', '.join(self.fields)}"
                yield (*at, key), "unknown key", hint
            for name, each in self.fields.items():
                if name in table:
                    try:
                        each.check(table[name])
                    except ValueError as error:
                        yield (*at, name), str(error), each.doc
                elif each.required:
                    yield at, f"{name} is missing", each.doc

    def _check_choice(self, value: Any) -> None:
        if not any(type(value) is type(each) and value == each for each in self.choices):
            hint = nearest(value, map(str, self.choices)) if isinstance(value, str) else ""
            choices = ", ".join(map(_literal, self.choices))
            raise ValueError(f"must be one of {choices}, not {toml_type(value)}" + (f" ({hint})" if hint else ""))

    def _item(self, index: int, item: Any) -> Any:
        if isinstance(item, SecretValue) and self.of == "string":
            return item
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
        own = TYPES[self.type]
        if own.measure is None:
            raise ValueError(f"a {self.type} has no bounds")
        value = own.bound.check(bound)
        return value if own.measure is len else own.measure(value)


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def toml_type(value: Any) -> str:
    """What TOML calls a value, with the value itself where it is short."""
    names = {bool: "a boolean", str: "a string", int: "an integer", float: "a float", list: "a list", dict: "a table"}
    name = names.get(type(value), f"a {type(value).__name__}")
    if isinstance(value, SecretValue | SecretText):
        return "a secret"
    if value is None:
        return "nothing (none)"
    if isinstance(value, bool):
        return f"{name} ({str(value).lower()})"
    if isinstance(value, str) and len(value) < 40:
        return f"{name} ({json.dumps(value, ensure_ascii=False)})"
    return f"{name} ({value!r})" if isinstance(value, int | float) and len(repr(value)) < 40 else name


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
        elif not _NAME.fullmatch(name):
            problems.append(document.problem("a parameter's name is made of letters, digits and _", path))
        elif name in RESERVED:
            problems.append(document.problem("this name has a meaning of its own in expressions", path))
        else:
            found[name] = _read(document, name, table, problems)
    return found


def _read(
    document: Document, name: str, table: dict[str, Any], problems: list[Problem], within: KeyPath = ("parameters",)
) -> Parameter:
    path = (*within, name)
    before = len(problems)
    keys = _KEYS if len(within) == 1 else _KEYS_OF_FIELD
    for key in table:
        if key not in keys:
            problems.append(document.problem("unknown key", (*path, key), hint=nearest(key, keys)))
    kind, of, choices = table.get("type"), table.get("of"), table.get("choices", [])
    if not isinstance(kind, str) or kind not in TYPES:
        message = f'"{kind}" is no type' if kind else "needs a type"
        hint = nearest(str(kind), TYPES) or f"one of {', '.join(TYPES)}"
        problems.append(document.problem(message, (*path, "type"), hint=hint))
        return Parameter(name, "string", document, wrong=True)
    if of is not None and (not isinstance(of, str) or of not in TYPES or kind != "list" or of == "choice"):
        hint = nearest(of, TYPES) if isinstance(of, str) else ""
        problems.append(document.problem("`of` names the type of a list's items", (*path, "of"), hint=hint))
    if not isinstance(choices, list) or (kind == "choice" and not choices):
        problems.append(document.problem("a choice needs choices = [...]", path))
    elif choices and kind in _WITHOUT_CHOICES:
        problems.append(document.problem(f"a {kind} has no choices", (*path, "choices")))
    if not isinstance(table.get("doc", ""), str):
        problems.append(document.problem("must be a string", (*path, "doc")))
    if not isinstance(table.get("required", False), bool):
        problems.append(document.problem("must be true or false", (*path, "required")))
    fields = _read_fields(document, path, table, problems)
    refuse = _read_rules(document, path, table, problems)
    if len(problems) > before:
        return Parameter(name, kind, document, wrong=True)
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
        fields,
        table.get("required", False),
        tuple(refuse),
        within,
    )
    problems += _contradictions(parameter, table)
    return parameter if len(problems) == before else replace(parameter, wrong=True)


def _read_fields(
    document: Document, path: KeyPath, table: dict[str, Any], problems: list[Problem]
) -> dict[str, Parameter]:
    """The fields of the tables that a parameter takes."""
    given, at = table.get("fields", {}), (*path, "fields")
    if "fields" in table and "table" not in (table.get("type"), table.get("of")):
        problems.append(document.problem("only a table, or a list of tables, has fields", at))
    elif not isinstance(given, dict) or not all(isinstance(each, dict) for each in given.values()):
        problems.append(document.problem("must be tables, each with at least a type", at))
    else:
        return {name: _read(document, name, each, problems, at) for name, each in given.items()}
    return {}


def _read_rules(
    document: Document, path: KeyPath, table: dict[str, Any], problems: list[Problem]
) -> list[dict[str, Any]]:
    """The rules by which a value is refused."""
    given, at = table.get("refuse", []), (*path, "refuse")
    if not isinstance(given, list) or not all(isinstance(rule, dict) for rule in given):
        problems.append(document.problem("must be tables, each with `when` and `message`", at))
        return []
    for i, rule in enumerate(given):
        for key in rule.keys() - _KEYS_OF_RULE:
            problems.append(document.problem("unknown key", (*at, i, key), hint=nearest(key, _KEYS_OF_RULE)))
        for key in ("when", "message"):
            if not isinstance(rule.get(key), str):
                problems.append(document.problem(f"{key} must be a string, mostly with an expression", (*at, i)))
        if not isinstance(rule.get("for_each", ""), str):
            problems.append(document.problem("must be an expression", (*at, i, "for_each")))
    return given


def _contradictions(parameter: Parameter, table: dict[str, Any]) -> Iterator[Problem]:
    """What is wrong with a parameter's own choices, bounds and default."""
    place = parameter.path
    bounds: list[float] = []
    for key in ("min", "max"):
        if key in table:
            try:
                bounds.append(parameter.limit(table[key]))
            except ValueError as error:
                yield parameter.document.problem(str(error), (*place, key))
    if len(bounds) == 2 and bounds[0] > bounds[1]:
        yield parameter.document.problem(f"max is less than min, which is {table['min']}", (*place, "max"))
    for i, choice in enumerate(parameter.choices):
        try:
            TYPES[parameter.type].check(choice)
        except ValueError as error:
            yield parameter.document.problem(str(error), (*place, "choices", i))
    if parameter.default is not MISSING and len(bounds) == sum(key in table for key in ("min", "max")):
        if _has_expressions(parameter.default):
            return
        try:
            parameter.check(parameter.default)
        except ValueError as error:
            yield parameter.document.problem(str(error), (*place, "default"))


def _has_expressions(value: Any) -> bool:
    if isinstance(value, str):
        return "{{" in value
    if isinstance(value, dict):
        return any(map(_has_expressions, (*value, *value.values())))
    return isinstance(value, list) and any(map(_has_expressions, value))
