"""The values of a site's parameters: looked up, filled in, checked; and values that nothing reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agent.declaration.document import nearest
from agent.declaration.lines import KeyPath
from agent.declaration.parameters import MISSING, Parameter
from agent.declaration.render import Namespace, Renderer, RenderError, SecretName, Unavailable, broken
from agent.declaration.site import SITE, Site, StateSource
from agent.errors import Problem
from agent.facts import FACTS, Facts

RESERVED = ("facts", "secrets", "states", "item")


class _Lazy(Mapping[str, Any]):
    """Names whose values are worked out when they are first read, so that they may use one another."""

    def __init__(self, values: Values, state: str, names: Iterable[str]) -> None:
        self._values = values
        self._state = state
        self._names = dict.fromkeys(names)

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self._values.value(self._state, name)

    def __iter__(self) -> Any:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Values:
    """Works out every parameter of every selected state once. Problems go to the site's list."""

    def __init__(self, site: Site, renderer: Renderer, facts: Facts) -> None:
        self._site = site
        self._renderer = renderer
        self._problems = site.reader.problems
        self._known: dict[tuple[str, str], Any] = {}
        self._open: list[tuple[str, str]] = []
        self._states = {state.name: state for state in site.states}
        self._shared: dict[str, Any] = {
            "facts": _FactNames(facts),
            "secrets": Namespace("there is no secret", {name: SecretName(name) for name in site.secrets}),
            "states": [name for name in self._states if name != SITE],
        }
        for name, state in self._states.items():
            if name != SITE:
                names = Namespace(f"state {name} has no parameter", _Lazy(self, name, state.parameters))
                self._shared[name.replace("-", "_")] = names

    def names(self, state: StateSource) -> dict[str, Any]:
        """All names that the strings and templates of a state may use, with their values."""
        return self._shared | {name: self.value(state.name, name) for name in self._own(state.name)}

    def _own(self, state: str) -> list[str]:
        parameters = self._states[state].parameters
        if state != SITE:
            return list(parameters)
        return [
            *parameters,
            *(name for name in self._site.values if name not in parameters and not self._is_state(name)),
        ]

    def _is_state(self, name: str) -> bool:
        return name in self._states and isinstance(self._site.values[name], dict)

    def value(self, state: str, name: str) -> Any:
        """The value of one parameter; a broken one that raises Unavailable when used, if it is wrong."""
        key = (state, name)
        if key in self._known:
            return self._known[key]
        parameter = self._states[state].parameters.get(name)
        if key in self._open:
            circle = " → ".join(".".join(each) for each in [*self._open[self._open.index(key) :], key])
            self._problems.append(self._problem(key, parameter, f"values need each other in a circle: {circle}"))
            self._known[key] = broken()
            return self._known[key]
        self._open.append(key)
        try:
            value = self._worked_out(key, parameter)
        except Unavailable:
            value = broken()
        finally:
            self._open.pop()
        self._known.setdefault(key, value)
        return self._known[key]

    def _worked_out(self, key: tuple[str, str], parameter: Parameter | None) -> Any:
        state, name = key
        value, path = self._given(state, name)
        if value is MISSING and parameter is not None:
            value = parameter.default
        if value is MISSING:
            return self._absent(state, name, parameter)
        try:
            value = self._filled_in(value, state)
            return parameter.check(value) if parameter is not None else value
        except (RenderError, ValueError) as error:
            problem = self._problem(
                key, parameter, error.message if isinstance(error, RenderError) else str(error), path
            )
            problem.hint = error.hint if isinstance(error, RenderError) else (parameter.doc if parameter else "")
            self._problems.append(problem)
            return broken()

    def _given(self, state: str, name: str) -> tuple[Any, KeyPath]:
        own = self._site.values.get(state)
        if isinstance(own, dict) and name in own:
            return own[name], (state, name)
        if name in self._site.values:
            return self._site.values[name], (name,)
        return MISSING, ()

    def _absent(self, state: str, name: str, parameter: Parameter | None) -> Any:
        doc = f": {parameter.doc}" if parameter and parameter.doc else ""
        kind = parameter.type if parameter else "string"
        hint = f"set it in [values], or for this state alone in [values.{state}]"
        if parameter:
            hint += f"; declared at {parameter.document.shown}:{parameter.document.line(parameter.path)}"
        message = f"state {state} needs a value for {name} ({kind}){doc}"
        self._problems.append(self._site.problem(message, (name,), hint=hint))
        return broken()

    def _problem(self, key: tuple[str, str], parameter: Parameter | None, message: str, path: KeyPath = ()) -> Problem:
        path = path or self._given(*key)[1]
        if path or parameter is None:
            return self._site.problem(message, path or (key[1],))
        return parameter.document.problem(message, (*parameter.path, "default"))

    def _filled_in(self, value: Any, state: str) -> Any:
        if isinstance(value, str) and "{{" in value:
            names = self._shared | {
                name: self.value(state, name)
                for name in self._renderer.names_in(value)
                if name in self._own(state) or (name in self._site.values and not self._is_state(name))
            }
            return self._renderer.string(value, names)
        if isinstance(value, list):
            return [self._filled_in(item, state) for item in value]
        if isinstance(value, dict):
            return {key: self._filled_in(item, state) for key, item in value.items()}
        return value

    def check_all(self) -> None:
        """Work out every parameter, so that all that is wrong is found."""
        for state in self._states.values():
            for name, parameter in state.parameters.items():
                if name in RESERVED or name in self._states:
                    self._problems.append(
                        parameter.document.problem("this name has a meaning of its own", parameter.path)
                    )
            self.names(state)

    def check_unread(self, used: set[str]) -> None:
        """Report values that no state reads; `used` are the names that the site's own resources use."""
        readable = {name for state in self._states.values() for name in state.parameters}
        for name, value in self._site.values.items():
            if name in self._states and name != SITE and isinstance(value, dict):
                parameters = self._states[name].parameters
                self._unread_in_state(name, value, parameters)
            elif name not in readable and name not in used:
                hint = nearest(name, readable | set(self._states) - {SITE})
                self._problems.append(self._site.problem("no state reads this value", (name,), hint=hint))

    def _unread_in_state(self, state: str, table: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> None:
        for name in table:
            if name not in parameters:
                message = f"state {state} has no parameter of this name"
                hint = nearest(name, parameters) or f"see `agent docs {state}`"
                self._problems.append(self._site.problem(message, (state, name), hint=hint))


class _FactNames(Namespace):
    """`facts.NAME` in expressions."""

    def __init__(self, facts: Facts) -> None:
        super().__init__("there is no fact", FACTS)
        self._facts = facts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._facts, name)
