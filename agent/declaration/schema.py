"""Validation: a kind's annotated fields become a pydantic model, and its errors become sentences."""

from __future__ import annotations

import dataclasses
import typing
from functools import cache
from typing import Any

import pydantic
import pydantic_core

from agent.declaration.document import dotted, nearest
from agent.declaration.lines import KeyPath
from agent.declaration.parameters import toml_type
from agent.fields import Doc, Internal
from agent.resource import Resource
from agent.resources import kind_class
from agent.secret import SecretText

_EXPECTED = {
    "string_type": "a string",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "a table",
    "is_instance_of": "a text",
}


@dataclasses.dataclass(frozen=True)
class FieldProblem:
    """What is wrong with one field: its path within the resource, the sentence, and a hint."""

    path: KeyPath
    message: str
    hint: str = ""


@dataclasses.dataclass(frozen=True)
class FieldDoc:
    """A field as its reference shows it."""

    name: str
    type: Any
    default: Any
    required: bool
    doc: str


@cache
def field_docs(kind: str) -> tuple[FieldDoc, ...]:
    """The fields of a kind that a declaration can set, its own before those that all kinds share."""
    cls = kind_class(kind)
    hints = typing.get_type_hints(cls, include_extras=True)
    shared = {field.name for field in dataclasses.fields(Resource)}
    found = []
    for field in sorted(dataclasses.fields(cls), key=lambda field: field.name in shared):
        metadata = getattr(hints[field.name], "__metadata__", ())
        if any(isinstance(mark, Internal) for mark in metadata):
            continue
        doc = next((mark.text for mark in metadata if isinstance(mark, Doc)), "")
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        found.append(FieldDoc(field.name, hints[field.name], default, required, doc))
    return tuple(found)


@cache
def _model(kind: str) -> type[pydantic.BaseModel]:
    # Fields get a prefix and their name as alias: a field may be called `validate`, which a model has itself.
    fields: dict[str, Any] = {}
    for field in field_docs(kind):
        default = ... if field.required else field.default
        fields[f"f_{field.name}"] = (field.type, pydantic.Field(default, alias=field.name))
    config = pydantic.ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)
    return pydantic.create_model(kind, __config__=config, **fields)


def field_names(kind: str) -> tuple[str, ...]:
    """The names of the fields that a declaration of this kind can have, without its name."""
    return tuple(field.name for field in field_docs(kind) if field.name != "name")


@cache
def _name_of(kind: str) -> pydantic.TypeAdapter[str]:
    own = next(field.type for field in field_docs(kind) if field.name == "name")
    return pydantic.TypeAdapter(own, config=pydantic.ConfigDict(strict=True))


def canonical_name(kind: str, name: str) -> str | None:
    """A name in the one spelling that ids have, or None where it is no name of this kind."""
    try:
        return _name_of(kind).validate_python(name)
    except pydantic.ValidationError:
        return None


def identity(kind: str, name: str) -> str:
    """What all spellings of one resource's id have in common: `cron` and `cron.service` are the same unit."""
    name = canonical_name(kind, name) or name
    same = getattr(kind_class(kind), "identity", None)
    return f"{kind}:{same(name) if same else name}"


def validated(kind: str, table: dict[str, Any], computed: set[KeyPath]) -> dict[str, Any] | list[FieldProblem]:
    """The fields that a declaration sets, validated; or everything that is wrong with it.

    `computed` are the paths whose value came from an expression: a number there may stand where a string is wanted.
    """
    try:
        model = _model(kind).model_validate(table)
    except pydantic.ValidationError as error:
        errors = error.errors(include_url=False)
        if sum(_stringified(table, entry, computed) for entry in errors):
            return validated(kind, table, set())
        return _problems(kind, errors, table)
    given = {name.removeprefix("f_"): getattr(model, name) for name in model.model_fields_set}
    resource = kind_class(kind)(**given)
    problems = [FieldProblem((), sentence) for sentence in resource.problems()]
    return problems or given


def _stringified(table: dict[str, Any], entry: pydantic_core.ErrorDetails, computed: set[KeyPath]) -> bool:
    path = entry["loc"]
    while path and path not in computed:
        path = path[:-1]
    if entry["type"] != "string_type" or not path or isinstance(entry["input"], dict | list | SecretText | None):
        return False
    container: Any = table
    for part in path[:-1]:
        container = container[part]
    if isinstance(container[path[-1]], dict | list):
        return False
    container[path[-1]] = str(container[path[-1]])
    return True


def _problems(kind: str, errors: list[pydantic_core.ErrorDetails], table: dict[str, Any]) -> list[FieldProblem]:
    found: dict[KeyPath, FieldProblem] = {}
    names = {field.name for field in field_docs(kind)}
    for entry in errors:
        path = entry["loc"] if entry["type"] == "missing" else _in_table(entry["loc"], table)
        problem = _problem(kind, entry, path, names)
        found.setdefault(problem.path, problem)
    return list(found.values())


def _problem(kind: str, entry: pydantic_core.ErrorDetails, path: KeyPath, names: set[str]) -> FieldProblem:
    code, value = entry["type"], entry["input"]
    if code == "extra_forbidden":
        hint = nearest(str(path[-1]), names - {"name"})
        what = f"unknown key of {kind}" if len(path) == 1 else "unknown key"
        return FieldProblem(path, what, (hint or f"see `agent docs {kind}`") if len(path) == 1 else "")
    if code == "missing":
        return FieldProblem(path, "is missing")
    if code == "literal_error":
        wanted = entry["ctx"]["expected"].replace("'", '"')
        return FieldProblem(path, f"must be {wanted}, not {toml_type(value)}", _nearest_of(value, wanted))
    if isinstance(value, SecretText):
        return FieldProblem(path, "a secret cannot stand here", "only where the reference of the kind says so")
    if code in _EXPECTED:
        hint = _in_quotes(path) if code == "string_type" and type(value) in (int, float) else ""
        return FieldProblem(path, f"must be {_EXPECTED[code]}, not {toml_type(value)}", hint)
    message = entry["msg"].removeprefix("Value error, ")
    return FieldProblem(path, message[0].lower() + message[1:] if code != "value_error" else message)


def _in_quotes(path: KeyPath) -> str:
    """What to write for a bare number: of a mode its value does not tell its digits, as 0o644 reads 420."""
    return 'write octal digits in quotes, such as "0644"' if path == ("mode",) else "write it in quotes"


def _nearest_of(value: Any, wanted: str) -> str:
    return nearest(value, wanted.replace(" or ", ", ").replace('"', "").split(", ")) if isinstance(value, str) else ""


def _in_table(path: KeyPath, table: Any) -> KeyPath:
    """The part of a path that is the user's: pydantic adds the members of a union (`str`, `is-instance[…]`) to it."""
    for i, part in enumerate(path):
        known = range(len(table)) if isinstance(table, list) else table if isinstance(table, dict) else ()
        if part not in known:
            return path[:i]
        table = table[part]
    return path


__all__ = ["FieldDoc", "FieldProblem", "canonical_name", "dotted", "field_docs", "field_names", "identity", "validated"]
