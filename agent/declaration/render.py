"""Filling in: `{{ … }}` in strings, and templates, with Jinja2.

It happens after TOML is parsed, so what is filled in can never change the structure of a document. Inside strings only
`{{ … }}` is special; template files are Jinja2 to the full. A secret can be inserted, and nothing else can be done with
it: it travels as a mark that only the resource turns into the value, when it is applied or compared.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jinja2
from jinja2 import meta, nodes

from agent.declaration.document import Reader, nearest
from agent.declaration.names import Environment, Marks, Unavailable, plain
from agent.declaration.secretvalue import RenderError, SecretValue

Names = Mapping[str, Any]


class Renderer:
    """Fills strings and templates in; the reader remembers every template that was read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._marks = Marks()
        # Delimiters that cannot be guessed: inside strings only expressions are special.
        odd = f"\0{secrets.token_hex(8)}"
        self._return = f"{odd}r"
        self._inline = Environment(
            self._marks,
            block_start_string=f"{odd}{{%",
            block_end_string=f"%}}{odd}",
            comment_start_string=f"{odd}{{#",
            comment_end_string=f"#}}{odd}",
        )
        self._files = Environment(self._marks, loader=jinja2.FunctionLoader(self._load))
        self._compiled: dict[str, Callable[[Names], Any]] = {}

    def value(self, text: str, names: Names) -> Any:
        """A string with its expressions filled in; one that is a single expression keeps its value's type.

        Secrets in it are SecretValues. Raises RenderError, or Unavailable where it uses a value that is wrong itself.
        """
        if "{{" not in text:
            return text
        if text not in self._compiled:
            try:
                self._compiled[text] = self._compile(text)
            except jinja2.TemplateSyntaxError as error:
                raise RenderError(f"not a valid expression: {error.message}", hint=self._filter_hint(error)) from None
        with _Explained(names):
            return plain(self._compiled[text](names))

    def string(self, text: str, names: Names) -> Any:
        """The same as the fields of a resource hold it: secrets in it are SecretTexts."""
        return _as_field(self.value(text, names))

    def _filter_hint(self, error: jinja2.TemplateSyntaxError) -> str:
        found = re.search(r"No (filter|test) named '(\w+)'", error.message or "")
        return nearest(found[2], getattr(self._inline, f"{found[1]}s")) if found else ""

    def names_in(self, text: str) -> set[str]:
        """The names that the expressions of a string read."""
        if "{{" not in text:
            return set()
        try:
            return set(meta.find_undeclared_variables(self._inline.parse(text)))
        except (jinja2.TemplateSyntaxError, RecursionError):
            return set()

    def names_in_template(self, path: Path, seen: set[str] | None = None) -> set[str]:
        """The names that a template file and those that it includes read."""
        seen = set() if seen is None else seen
        seen.add(str(path))
        try:
            tree = self._files.parse(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, jinja2.TemplateSyntaxError, RecursionError):
            return set()
        names = set(meta.find_undeclared_variables(tree))
        for included in meta.find_referenced_templates(tree):
            if included is not None and (other := self._files.join_path(included, str(path))) not in seen:
                names |= self.names_in_template(Path(other), seen)
        return names

    def _compile(self, text: str) -> Callable[[Names], Any]:
        source = text.replace("\r", self._return)  # Jinja2 would make it a line feed
        body = self._inline.parse(source).body
        if len(body) == 1 and isinstance(body[0], nodes.Output) and len(body[0].nodes) == 1:
            if isinstance(body[0].nodes[0], nodes.TemplateData):
                return lambda _names: text
            expression = text.strip()[2:-2].strip("-+")
            evaluate = self._inline.compile_expression(expression, undefined_to_none=False)
            return lambda names: evaluate(names)
        template = self._inline.from_string(source)
        return lambda names: self._marks.resolved(template.render(names).replace(self._return, "\r"))

    def template(self, path: Path, names: Names) -> Any:
        """A template file filled in; others that it includes are looked up beside it."""
        with _Explained(names, self._reader.shown):
            return _as_field(self._marks.resolved(self._files.get_template(os.path.normpath(path)).render(names)))

    def _load(self, name: str) -> tuple[str, str, Callable[[], bool]]:
        path = Path(name)
        if not self._reader.exists(path) and not path.is_dir():
            raise jinja2.TemplateNotFound(name)
        before = len(self._reader.problems)
        text = self._reader.text(path)
        if text is None:
            problem = self._reader.problems[-1]
            del self._reader.problems[before:]
            if not problem.line:  # no place in it is wrong: told where it is asked for
                raise RenderError(f"the template {problem.file} {problem.message}", hint=problem.hint)
            message = f"the template {problem.message}"
            raise RenderError(message, hint=problem.hint, file=problem.file, line=problem.line)
        return text, name, lambda: True


def _as_field(value: Any) -> Any:
    if isinstance(value, SecretValue):
        return value.as_text()
    if isinstance(value, list):
        return [_as_field(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_field(item) for key, item in value.items()}
    return value


class _Explained:
    """Turns what Jinja2 raises into a RenderError that says which name was probably meant, and where."""

    def __init__(self, names: Names, shown: Callable[[Path], str] | None = None) -> None:
        self._names = names
        self._shown = shown

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None or isinstance(error, Unavailable) or not isinstance(error, Exception):
            return
        file, line = self._place(error, trace)
        if isinstance(error, RenderError):
            if self._shown and not error.file:
                error.file, error.line = file, line
            return
        message, hint = self._words(error)
        raise RenderError(message, hint=hint, file=file, line=line) from None

    def _place(self, error: BaseException, trace: TracebackType | None) -> tuple[str, int]:
        if self._shown is None:
            return "", 0
        if isinstance(error, jinja2.TemplateSyntaxError) and error.filename:
            return self._shown(Path(error.filename)), error.lineno
        found = ("", 0)
        while trace is not None:
            name = trace.tb_frame.f_code.co_filename
            if "__jinja_exception__" in trace.tb_frame.f_globals:
                found = (self._shown(Path(name)), trace.tb_lineno)
            trace = trace.tb_next
        return found

    def _words(self, error: Exception) -> tuple[str, str]:
        if isinstance(error, jinja2.TemplateSyntaxError):
            return f"not valid Jinja2: {error.message}", ""
        if isinstance(error, jinja2.TemplateNotFound):
            shown = self._shown(Path(str(error.name))) if self._shown else error.name
            return f'there is no template "{shown}"', ""
        if isinstance(error, jinja2.UndefinedError):
            found = re.fullmatch(r"'([^']+)' is undefined", str(error))
            if found:
                return f'the name "{found[1]}" is undefined', nearest(found[1], self._names)
            return str(error), ""
        if isinstance(error, RecursionError):
            return "goes round in a circle, or is nested too deeply", ""
        return f"cannot be worked out: {str(error) or type(error).__name__}", ""
