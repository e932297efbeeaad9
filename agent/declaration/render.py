"""Filling in: `{{ … }}` in strings, and templates, with Jinja2.

It happens after TOML is parsed, so what is filled in can never change the structure of a document. Inside strings only
`{{ … }}` is special; template files are Jinja2 to the full. A secret can be inserted, and nothing else can be done with
it: it travels as a mark that only the resource turns into the value, when it is applied or compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jinja2
from jinja2 import nodes

from agent.declaration.document import Reader, nearest
from agent.fields import byte_count, seconds
from agent.secret import SecretText

_MARK = re.compile("\0([^\0]+)\0")
Names = Mapping[str, Any]


class RenderError(Exception):
    """A string or template cannot be filled in; `line` is the line in a template file, `file` its path."""

    def __init__(self, message: str, *, hint: str = "", file: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.file = file
        self.line = line


class Unavailable(jinja2.TemplateRuntimeError):
    """A value is used that is itself wrong and was reported where it stands."""


def broken() -> jinja2.Undefined:
    """Stands for a value that is wrong and was reported already: whatever uses it is not reported again."""
    return jinja2.StrictUndefined(exc=Unavailable)


class SecretName:
    """A secret in an expression: it can be put into a text, and refuses everything else."""

    def __init__(self, name: str) -> None:
        self._name = name

    def mark(self) -> str:
        """What stands for it in a text until it is used."""
        return f"\0{self._name}\0"

    def _refuse(self, *_args: Any, **_kwargs: Any) -> Any:
        raise RenderError(
            f"the secret {self._name} can only be inserted as it stands",
            hint="no filter, comparison or other operation sees a secret's value",
        )

    __str__ = __len__ = __iter__ = __bool__ = __eq__ = __getitem__ = __contains__ = _refuse
    __add__ = __radd__ = __mod__ = __html__ = __int__ = __float__ = __lt__ = _refuse
    __hash__ = None  # type: ignore[assignment]


class Namespace:
    """A table of names that an expression reads with a dot; `what` says in errors what the names are."""

    def __init__(self, what: str, names: Mapping[str, Any]) -> None:
        self._what = what
        self._names = names

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._names:
            raise AttributeError(name)
        return self._names[name]

    def missing(self, name: str) -> str:
        """What to say of a name that is not there."""
        hint = nearest(name, self._names)
        return f'{self._what} "{name}"' + (f" ({hint})" if hint else "")


class _Strict(jinja2.StrictUndefined):
    __slots__ = ()

    def __init__(
        self, hint: str | None = None, obj: Any = jinja2.utils.missing, name: str | None = None, **more: Any
    ) -> None:
        if isinstance(obj, Namespace) and name is not None:
            hint = obj.missing(name)
        super().__init__(hint, obj, name, **more)


def _finalize(value: Any) -> Any:
    return value.mark() if isinstance(value, SecretName) else value


def _environment(**options: Any) -> jinja2.Environment:
    environment = jinja2.Environment(
        undefined=_Strict, finalize=_finalize, keep_trailing_newline=True, autoescape=False, **options
    )
    environment.filters["seconds"] = seconds
    environment.filters["bytes"] = byte_count
    return environment


class Renderer:
    """Fills strings and templates in; remembers every template that it read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        # Delimiters with a NUL cannot occur in TOML: inside strings only expressions are special.
        self._inline = _environment(
            block_start_string="\0{%", block_end_string="%}\0", comment_start_string="\0{#", comment_end_string="#}\0"
        )
        self._files = _environment(loader=jinja2.FunctionLoader(self._load))
        self._compiled: dict[str, Callable[[Names], Any]] = {}
        self._folder = Path("/")

    def string(self, text: str, names: Names) -> Any:
        """A string with its expressions filled in; one that is a single expression keeps its value's type.

        Raises RenderError, or Unavailable where it uses a value that is wrong itself.
        """
        if "{{" not in text:
            return text
        if text not in self._compiled:
            try:
                self._compiled[text] = self._compile(text)
            except jinja2.TemplateSyntaxError as error:
                raise RenderError(f"not a valid expression: {error.message}", hint=self._filter_hint(error)) from None
        with _Explained(names):
            value = self._compiled[text](names)
        if isinstance(value, jinja2.Undefined):
            with _Explained(names):
                str(value)
        if isinstance(value, SecretName):
            value = value.mark()
        return _with_secrets(value) if isinstance(value, str) else value

    def _filter_hint(self, error: jinja2.TemplateSyntaxError) -> str:
        found = re.search(r"No (filter|test) named '(\w+)'", error.message or "")
        return nearest(found[2], getattr(self._inline, f"{found[1]}s")) if found else ""

    def names_in(self, text: str) -> set[str]:
        """The names that the expressions of a string read."""
        from jinja2 import meta

        if "{{" not in text:
            return set()
        try:
            return set(meta.find_undeclared_variables(self._inline.parse(text)))
        except jinja2.TemplateSyntaxError:
            return set()

    def names_in_template(self, path: Path) -> set[str]:
        """The names that a template file reads."""
        from jinja2 import meta

        try:
            return set(meta.find_undeclared_variables(self._files.parse(path.read_text(encoding="utf-8"))))
        except (OSError, UnicodeDecodeError, jinja2.TemplateSyntaxError):
            return set()

    def _compile(self, text: str) -> Callable[[Names], Any]:
        body = self._inline.parse(text).body
        if len(body) == 1 and isinstance(body[0], nodes.Output) and len(body[0].nodes) == 1:
            if isinstance(body[0].nodes[0], nodes.TemplateData):
                return lambda _names: text
            expression = text.strip()[2:-2].strip("-+")
            evaluate = self._inline.compile_expression(expression, undefined_to_none=False)
            return lambda names: evaluate(**names)
        template = self._inline.from_string(text)
        return lambda names: template.render(**names)

    def template(self, path: Path, names: Names) -> Any:
        """A template file filled in; others that it includes are looked up beside it."""
        self._folder = path.parent
        with _Explained(names, self._reader.shown):
            return _with_secrets(self._files.get_template(str(path)).render(**names))

    def _load(self, name: str) -> tuple[str, str, Callable[[], bool]]:
        path = Path(self._folder, name)
        before = len(self._reader.problems)
        text = self._reader.text(path)
        if text is None:
            problem = self._reader.problems[-1]
            del self._reader.problems[before:]
            raise RenderError(f"the template {problem.message}", file=problem.file, line=problem.line)
        return text, str(path), lambda: True


def _with_secrets(text: str) -> str | SecretText:
    return SecretText(tuple(_MARK.split(text))) if _MARK.search(text) else text


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
            return f'there is no template "{error.name}"', ""
        if isinstance(error, jinja2.UndefinedError):
            found = re.fullmatch(r"'([^']+)' is undefined", str(error))
            if found:
                return f'the name "{found[1]}" is undefined', nearest(found[1], self._names)
            return str(error), ""
        return f"{type(error).__name__}: {error}", ""
