"""The values of a site's parameters: looked up, filled in, checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jinja2 import Undefined

from agent.declaration.lines import KeyPath
from agent.declaration.names import Namespace, Unavailable, broken
from agent.declaration.parameters import MISSING, RESERVED, Parameter, WrongFields
from agent.declaration.render import Renderer
from agent.declaration.secretvalue import RenderError, SecretValue
from agent.declaration.site import SITE, Site, StateSource
from agent.errors import Problem
from agent.facts import FACTS, Facts


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

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _FactNames(Mapping[str, Any]):
    """`facts.NAME` in expressions."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def __getitem__(self, name: str) -> Any:
        return getattr(self._facts, name)

    def __contains__(self, name: object) -> bool:
        return name in FACTS

    def __iter__(self) -> Iterator[str]:
        return iter(FACTS)

    def __len__(self) -> int:
        return len(FACTS)


class Values:
    """Works out every parameter of every selected state once. Problems go to the site's list."""

    def __init__(self, site: Site, renderer: Renderer, facts: Facts) -> None:
        self._site = site
        self._renderer = renderer
        self._problems = site.reader.problems
        self._known: dict[tuple[str, str], Any] = {}
        self._open: list[tuple[str, str]] = []
        self._states = {state.name: state for state in site.states}
        inserted = {name: SecretValue(("", name, "")) for name in site.secrets}
        self._shared: dict[str, Any] = {
            name.replace("-", "_"): Namespace(f"state {name} has no parameter", _Lazy(self, name, state.parameters))
            for name, state in self._states.items()
            if name != SITE
        }
        self._shared |= {
            "facts": Namespace("there is no fact", _FactNames(facts)),
            "secrets": Namespace("there is no secret", inserted),
            "states": [name for name in self._states if name != SITE],
        }

    def names(self, state: StateSource) -> dict[str, Any]:
        """All names that the strings and templates of a state may use, with their values."""
        return self._shared | {name: self.value(state.name, name) for name in self._own(state.name)}

    def _own(self, state: str) -> list[str]:
        parameters = self._states[state].parameters
        return list(parameters) if state != SITE else [*parameters, *self._plain_values(except_for=parameters)]

    def _plain_values(self, except_for: Iterable[str]) -> list[str]:
        """Names of the values that are no tables of a state."""
        taken = {*except_for, *RESERVED}
        return [name for name in self._site.values if name not in taken and not self._is_state(name)]

    def _is_state(self, name: str) -> bool:
        return name in self._states and isinstance(self._site.values.get(name), dict)

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
        if parameter is not None and parameter.wrong:
            return broken()
        state, name = key
        value, path = self._given(state, name)
        if value is MISSING and parameter is not None:
            value = parameter.default
        if value is MISSING:
            return self._absent(state, name, parameter)
        try:
            if state != SITE and len(path) == 1:
                value = self.value(SITE, name)
                if isinstance(value, Undefined):
                    return value
            else:
                value = self._filled_in(value, key, bool(path), ())
            return parameter.check(value) if parameter is not None else value
        except RenderError as error:
            at = path and (*path, *error.at)
            self._problems.append(self._problem(key, parameter, error.message, at, hint=error.hint))
        except WrongFields as error:
            for at, message, hint in error.found:
                self._problems.append(self._problem(key, parameter, message, path and (*path, *at), hint=hint))
        except ValueError as error:
            hint = parameter.doc if parameter else ""
            self._problems.append(self._problem(key, parameter, str(error), path, hint=hint))
        return broken()

    def _given(self, state: str, name: str) -> tuple[Any, KeyPath]:
        own = self._site.values.get(state)
        if isinstance(own, dict) and name in own:
            return own[name], (state, name)
        if name in self._site.values and not self._is_state(name):
            return self._site.values[name], (name,)
        return MISSING, ()

    def _absent(self, state: str, name: str, parameter: Parameter | None) -> Any:
        doc = f": {parameter.doc}" if parameter and parameter.doc else ""
        kind = parameter.type if parameter else "string"
        hint = "set it in [values]" + (f", or for this state alone in [values.{state}]" if state != SITE else "")
        if parameter:
            hint += f"; declared at {parameter.document.shown}:{parameter.document.line(parameter.path)}"
        who = "the site" if state == SITE else f"state {state}"
        message = f"{who} needs a value for {name} ({kind}){doc}"
        self._problems.append(self._site.problem(message, (name,), hint=hint))
        return broken()

    def _problem(
        self, key: tuple[str, str], parameter: Parameter | None, message: str, path: KeyPath = (), *, hint: str = ""
    ) -> Problem:
        path = path or self._given(*key)[1]
        if path or parameter is None:
            return self._site.problem(message, path or (key[1],), hint=hint)
        return parameter.document.problem(message, (*parameter.path, "default"), hint=hint)

    def problem(self, state: str, name: str, message: str, at: KeyPath = ()) -> Problem:
        """A problem with the value of a parameter, at a place within it, wherever that was written."""
        parameter = self._states[state].parameters[name]
        given = self._given(state, name)[1]
        return self._problem((state, name), parameter, message, given and (*given, *at), hint=parameter.doc)

    def _filled_in(self, value: Any, key: tuple[str, str], given: bool, at: KeyPath) -> Any:
        if isinstance(value, str) and "{{" in value:
            try:
                return self._renderer.value(value, self._names_for(value, key, given))
            except RenderError as error:
                error.at = error.at or at
                raise
        if isinstance(value, list):
            return [self._filled_in(item, key, given, (*at, i)) for i, item in enumerate(value)]
        if isinstance(value, dict):
            return {
                self._key(name, key, given): self._filled_in(item, key, given, (*at, name))
                for name, item in value.items()
            }
        return value

    def _names_for(self, text: str, key: tuple[str, str], given: bool) -> dict[str, Any]:
        """What a value may use: the state's parameters by their names and, where the site gives it, the site's values.

        `values.STATE.NAME` that uses NAME means the value that all other states get.
        """
        state, own_name = key
        own = self._states[state].parameters
        of_site = set(self._own(SITE)) if given or state == SITE else set()
        names = dict(self._shared)
        for name in self._renderer.names_in(text):
            if name in own and not (name == own_name and name in of_site and state != SITE):
                names[name] = self.value(state, name)
            elif name in of_site:
                names[name] = self.value(SITE, name)
        return names

    def _key(self, name: str, key: tuple[str, str], given: bool) -> str:
        filled = self._filled_in(name, key, given, ())
        if isinstance(filled, SecretValue):
            raise RenderError("a secret cannot be a key")
        return filled if isinstance(filled, str) else str(filled)

    def check_all(self) -> None:
        """Work out every parameter, so that all that is wrong is found."""
        for state in self._states.values():
            self.names(state)
        for name in self._site.values:
            if name in RESERVED:
                self._problems.append(self._site.problem("this name has a meaning of its own in expressions", (name,)))
