"""The reference of kinds and states, in Markdown, generated from the code and the states themselves."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.declaration.document import Reader
from agent.declaration.parameters import MISSING, Parameter, read_parameters
from agent.declaration.schema import FieldDoc, field_docs
from agent.errors import DeclarationError
from agent.resource import Resource
from agent.resources import KINDS, kind_class
from agent.secret import SecretText

_SHARED = {"requires", "drift", "check_every", "on_removal"}
_META = (
    ("when", "expression", "", "False: the resource is left out, e.g. `when = \"{{ facts.arch == 'arm64' }}\"`"),
    ("for_each", "expression or list", "", "One resource per item of a list or table; `item` in the name and fields"),
)


def kind_page(kind: str) -> str:
    """The page of a kind."""
    cls = kind_class(kind)
    own = [field for field in field_docs(kind) if field.name not in _SHARED and field.name != "name"]
    shared = [field for field in field_docs(kind) if field.name in _SHARED]
    name = next(field for field in field_docs(kind) if field.name == "name")
    parts = [f"# {kind}", inspect.cleandoc(cls.__doc__ or ""), f"`[{kind}.NAME]`, NAME: {name.doc or 'a label'}."]
    parts += ["## Fields", _table(_field_rows(own))]
    parts += ["## Fields of every resource", _table([*_shared_rows(cls, shared), *_META])]
    needs = ", ".join(f"`{other}`" for other in cls.needs_of_state)
    if needs:
        parts.append(f"Comes after these of its own state without being told: {needs}.")
    if cls.example:
        parts += ["## Example", f"```toml\n{cls.example.rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _field_rows(fields: Sequence[FieldDoc]) -> Iterator[tuple[str, str, str, str]]:
    for field in fields:
        default = "required" if field.required else _literal(field.default)
        yield field.name, type_words(field.type), default, field.doc


def _shared_rows(cls: type[Resource], shared: Sequence[FieldDoc]) -> Iterator[tuple[str, str, str, str]]:
    for name, kind, default, doc in _field_rows(shared):
        yield name, kind, f'`"{cls.looks_every}"`' if name == "check_every" else default, doc


def type_words(annotation: Any) -> str:
    """A field's type in the words of TOML."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_words(arguments[0])
    if origin is typing.Literal:
        return ", ".join(f'`"{choice}"`' if isinstance(choice, str) else f"`{choice}`" for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        words = [type_words(each) for each in arguments if each not in (type(None), SecretText)]
        return " or ".join(dict.fromkeys(words)) + (" (may hold secrets)" if SecretText in arguments else "")
    if origin in (list, tuple) or annotation is list:
        return f"list of {_plural(type_words(arguments[0]))}" if arguments else "list"
    if origin in (dict, Mapping) or annotation is dict:
        return "table"
    names = {str: "string", int: "whole number", bool: "true or false", float: "number", Any: "any value"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _plural(word: str) -> str:
    return word + "s" if word.isalpha() else word


def _literal(value: Any) -> str:
    if value is None or (isinstance(value, list | dict) and not value):
        return ""
    return (
        f"`{str(value).lower()}`"
        if isinstance(value, bool)
        else f'`"{value}"`'
        if isinstance(value, str)
        else f"`{value}`"
    )


def _table(rows: Any) -> str:
    lines = ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
    lines += [f"| `{name}` | {kind} | {default} | {_cell(doc)} |" for name, kind, default, doc in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def states_in(trees: Sequence[Path]) -> dict[str, Path]:
    """The state files of these trees by name; the earlier tree wins."""
    found: dict[str, Path] = {}
    for tree in trees:
        for path in sorted(tree.glob("*/state.toml")):
            found.setdefault(path.parent.name, path)
    return found


def state_page(name: str, path: Path) -> str:
    """The page of a state. Raises DeclarationError where its file is wrong."""
    reader = Reader(path.parent.parent)
    document = reader.document(path)
    parameters = read_parameters(document, reader.problems) if document else {}
    if reader.problems or document is None:
        raise DeclarationError(reader.problems)
    section = document.data.get("state", {})
    parts = [f"# {name}", str(section.get("summary", ""))]
    if section.get("needs"):
        parts.append("Needs: " + ", ".join(f"`{other}`" for other in section["needs"]))
    rows = [row for parameter in parameters.values() for row in _parameter_rows(parameter)]
    parts += ["## Parameters", _table(rows).replace("| field |", "| parameter |", 1) if rows else "None."]
    resources = [f"{kind}:{key}" for kind in document.data if kind in KINDS for key in document.data[kind]]
    parts += ["## Resources", "\n".join(f"- `{id}`" for id in resources)]
    readme = path.parent / "README.md"
    if readme.exists():
        parts += ["## About", readme.read_text(encoding="utf-8").strip()]
    return "\n\n".join(part for part in parts if part) + "\n"


def _parameter_rows(parameter: Parameter) -> Iterator[tuple[str, str, str, str]]:
    default = "required" if parameter.default is MISSING else _literal(parameter.default) or f"`{parameter.default}`"
    yield parameter.name, _parameter_type(parameter), default, parameter.doc
    for each in parameter.fields.values():
        yield f"{parameter.name}.{each.name}", _parameter_type(each), "required" if each.required else "", each.doc


def _parameter_type(parameter: Parameter) -> str:
    words: str = parameter.type + (f" of {parameter.of}" if parameter.of else "")
    if parameter.choices:
        words += ": " + ", ".join(f"`{choice}`" for choice in parameter.choices)
    bounds = [f"at least {parameter.minimum}"] * (parameter.minimum is not None)
    bounds += [f"at most {parameter.maximum}"] * (parameter.maximum is not None)
    return words + (f" ({', '.join(bounds)})" if bounds else "")


def index(states: Mapping[str, Path]) -> str:
    """All kinds and states, a line each."""
    lines = ["# Kinds", ""]
    for kind in KINDS:
        summary = inspect.cleandoc(kind_class(kind).__doc__ or "").splitlines()[0]
        lines.append(f"- `{kind}`: {summary}")
    lines += ["", "# States", ""]
    for name, path in states.items():
        document = Reader(path.parent).document(path)
        summary = document.data.get("state", {}).get("summary", "") if document else "(cannot be read)"
        lines.append(f"- `{name}`: {summary}")
    return "\n".join(lines) + "\n"


def pages(tree: Path) -> dict[str, str]:
    """All pages of the reference by their path below docs/reference; states are those of one tree."""
    states = states_in([tree])
    found = {"README.md": index(states)}
    found |= {f"kinds/{kind}.md": kind_page(kind) for kind in KINDS}
    found |= {f"states/{name}.md": state_page(name, path) for name, path in states.items()}
    return found
