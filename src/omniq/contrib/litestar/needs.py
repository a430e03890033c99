"""Which parameters of a task are dependencies of the app, and what these need in turn.

All of it is worked out without a request: what only a request has is refused by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from litestar.di import NamedDependency, Provide
from litestar.params import KwargDefinition
from msgspec import Struct

from omniq.errors import ConfigError, did_you_mean

Function = Callable[..., Any]

REQUEST = frozenset({"request", "socket", "headers", "cookies", "query", "body", "data", "scope"})
"""Names Litestar keeps for parts of a request."""
STATE = "state"
"""The one such name that a task can have: the app's state."""

_MARK = type(get_args(NamedDependency[int])[1])
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Needs(Struct, frozen=True):
    """What of a task's parameters is filled in.

    `marked` ones always are (`NamedDependency[...]`), unless given by name; positions do not
    count them, so `given` is the signature without them. `open` ones only where the call left
    them out: they have no default, and their name is that of a dependency.
    """

    whole: inspect.Signature
    given: inspect.Signature
    marked: tuple[str, ...]
    open: tuple[str, ...]


class Step(Struct, frozen=True):
    """One dependency to be made. `takes` are the names of those it is made from."""

    name: str
    provide: Provide
    takes: tuple[str, ...]


class Graph:
    """The app's dependencies by name."""

    def __init__(
        self, dependencies: Mapping[str, Provide | Function], names: Mapping[str, Any]
    ) -> None:
        self._provides = {name: _provide(each) for name, each in dependencies.items()}
        self._names = names
        self._steps: dict[str, tuple[Step, ...]] = {}

    def needs(self, func: Function) -> Needs | None:
        """What is to be filled in for a task; None: nothing."""
        if not (named := _parameters(func)):
            return None
        whole, hints = inspect.signature(func), self._hints(func)
        marked = tuple(p.name for p in named if _is_marked(hints.get(p.name, p.annotation)))
        left = tuple(
            each.name
            for each in named
            if each.default is each.empty
            and each.name in self._provides
            and each.name not in marked
        )
        if not marked and not left:
            return None
        rest = [each for name, each in whole.parameters.items() if name not in marked]
        return Needs(whole, inspect.Signature(rest), marked, left)

    def steps(self, func: Function, name: str) -> tuple[Step, ...]:
        """What is made for `name`, in order; ConfigError if it cannot be made for a task."""
        found = self._steps.get(name)
        if found is None:
            if name not in self._provides:
                raise ConfigError(
                    f"task {_title(func)} wants the dependency {name!r}, which the app does not "
                    f"provide{did_you_mean(name, self._provides)}"
                )
            found = self._steps[name] = tuple(self._walk(func, name, ()).values())
        return found

    def knows(self, name: str) -> bool:
        return name in self._provides

    def _walk(self, func: Function, name: str, above: tuple[str, ...]) -> dict[str, Step]:
        """Depth first, so that each comes after those it is made from."""
        provide = self._provides[name]
        found: dict[str, Step] = {}
        takes: list[str] = []
        hints = self._hints(provide.dependency)
        for each in _parameters(provide.dependency):
            asked = _is_asked(hints.get(each.name))
            if each.name in self._provides and not asked:
                if each.name in (*above, name):
                    raise ConfigError(
                        f"the dependencies {name!r} and {each.name!r} need each other"
                    )
                found |= self._walk(func, each.name, (*above, name))
                takes.append(each.name)
            elif each.name == STATE and not asked:
                takes.append(STATE)
            elif each.name in REQUEST or each.default is each.empty:
                raise ConfigError(_bound(func, (*above, name)[0], provide, each.name))
        return {**found, name: Step(name, provide, tuple(takes))}

    def _hints(self, func: Function) -> dict[str, Any]:
        try:
            return get_type_hints(
                inspect.unwrap(func), localns=dict(self._names), include_extras=True
            )
        except Exception:  # some name is known to type checkers only
            return {}


def _is_asked(annotation: Any) -> bool:
    """Whether it says itself what of a request it is: `FromQuery[...]` and its like."""
    marks = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return any(isinstance(each, KwargDefinition) for each in marks)


def _is_marked(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.partition("[")[0].rpartition(".")[2] == "NamedDependency"
    if get_origin(annotation) is Annotated:
        return any(isinstance(each, _MARK) for each in get_args(annotation)[1:])
    return False


def _parameters(func: Function) -> list[inspect.Parameter]:
    """The parameters that have a name in calls."""
    try:
        found = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):  # written in C
        return []
    return [each for each in found if each.kind not in _VARIABLE]


def _provide(given: Provide | Function) -> Provide:
    return given if isinstance(given, Provide) else Provide(given, sync_to_thread=False)


def _bound(func: Function, wanted: str, provide: Provide, parameter: str) -> str:
    maker = getattr(provide.dependency, "__qualname__", type(provide.dependency).__qualname__)
    return (
        f"task {_title(func)} wants the dependency {wanted!r}, but {maker}() needs {parameter!r}, "
        "which only a request has, and a task runs without one: give the task what it needs as "
        f"an argument, or provide something that is made without {parameter!r}"
    )


def _title(func: Function) -> str:
    return f"{func.__module__}:{getattr(func, '__qualname__', func)}"
