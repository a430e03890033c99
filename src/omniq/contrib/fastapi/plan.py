"""What a task's function wants to have filled in, found out once per function."""

from __future__ import annotations

import builtins
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from fastapi import BackgroundTasks, Response
from fastapi.params import Body, Depends, Param
from fastapi.security import SecurityScopes
from starlette.requests import HTTPConnection

from omniq.errors import ConfigError
from omniq.workers.context import TaskContext

Dependency = Callable[..., Any]
QUEUE = "__omniq_queue__"
"""An attribute of the dependencies that give a queue: its name. Tasks get it from the app."""
REQUEST_BOUND = (HTTPConnection, Response, BackgroundTasks, SecurityScopes)
"""What only a request can bring. (Request and WebSocket are kinds of HTTPConnection.)"""


class Need(NamedTuple):
    """A parameter that is filled in. `call` None: with the running task's context."""

    name: str
    call: Dependency | None = None
    use_cache: bool = True


class Plan(NamedTuple):
    """A task function's needs. `given` is the signature of what its caller passes."""

    needs: tuple[Need, ...]
    whole: inspect.Signature
    given: inspect.Signature


def plan_task(func: Dependency) -> Plan | None:
    """None for a function that uses no dependency."""
    if not _may_have_needs(func):
        return None
    try:
        whole = _signature(func)
    except (TypeError, ValueError):  # built-in functions may have none
        return None
    needs = []
    for parameter in whole.parameters.values():
        need = _need(func, parameter)
        if need is not None:
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise ConfigError(
                    f"task {_called(func)}: its parameter {parameter.name!r} is filled in by "
                    "name, so it cannot stand before a `/`"
                )
            needs.append(need)
    if not needs:
        return None
    filled = {need.name for need in needs}
    rest = [each for each in whole.parameters.values() if each.name not in filled]
    return Plan(tuple(needs), whole, whole.replace(parameters=rest))


def check(func: Dependency, needs: tuple[Need, ...], overrides: Mapping[Any, Any]) -> None:
    """Raise ConfigError if something below asks for what only a request can bring."""
    try:
        _check_below(needs, overrides, ())
    except _Unfit as unfit:
        raise ConfigError(
            f"task {_called(func)} cannot use {unfit.path}: {unfit.why}, and a task runs "
            "without a request. Pass the task what it needs as an argument "
            "(`await queue.enqueue(f, (user.id,))`), or write a dependency that does without, "
            "such as one that opens a session of its own"
        ) from None


def _check_below(
    needs: tuple[Need, ...], overrides: Mapping[Any, Any], path: tuple[str, ...]
) -> None:
    for need in needs:
        if need.call is not None:
            call = overrides.get(need.call, need.call)
            here = (*path, f"Depends({_called(call)})")
            try:
                below = needs_of(call)
            except _Unfit as unfit:
                raise _Unfit(unfit.why, " -> ".join(here)) from None
            if len(path) < 50:  # a circle would be found by running it, and ends there
                _check_below(below, overrides, here)


@lru_cache(maxsize=4096)
def needs_of(call: Dependency) -> tuple[Need, ...]:
    """What a dependency wants to be filled in, in its turn; its defaults stay as they are."""
    if hasattr(call, QUEUE):
        return ()
    try:
        parameters = _signature(call).parameters.values()
    except (TypeError, ValueError):
        return ()
    needs = []
    for parameter in parameters:
        need = _need(call, parameter)
        if need is not None:
            needs.append(need)
        elif (why := _unfit(call, parameter)) is not None:
            raise _Unfit(why)
    return tuple(needs)


class _Unfit(Exception):
    """A dependency no task can use. `path`: how one gets there."""

    def __init__(self, why: str, path: str = "") -> None:
        super().__init__(why)
        self.why, self.path = why, path


def _signature(call: Dependency) -> inspect.Signature:
    if sys.version_info >= (3, 14):  # names for type checkers only must not be looked up
        from annotationlib import Format

        return inspect.signature(call, annotation_format=Format.FORWARDREF)
    return inspect.signature(call)


def _need(call: Dependency, parameter: inspect.Parameter) -> Need | None:
    annotation, marks = _annotation(call, parameter)
    if isinstance(parameter.default, Depends):
        marks = (*marks, parameter.default)
    for mark in reversed(marks):
        if isinstance(mark, Depends):
            wanted = mark.dependency or annotation
            if wanted is parameter.empty or not callable(wanted):
                raise ConfigError(
                    f"{_called(call)}: Depends() of its parameter {parameter.name!r} names no "
                    "dependency: write Depends(f), or annotate the parameter with a class"
                )
            return Need(parameter.name, wanted, mark.use_cache)
    if annotation is TaskContext:
        return Need(parameter.name)
    return None


def _unfit(call: Dependency, parameter: inspect.Parameter) -> str | None:
    """Why a task cannot fill in this parameter of a dependency; None: it need not."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return None
    annotation, marks = _annotation(call, parameter)
    name = f"its parameter {parameter.name!r}"
    if isinstance(annotation, type) and issubclass(annotation, REQUEST_BOUND):
        return f"{name} is the {annotation.__name__}"
    for mark in (*marks, parameter.default):
        if isinstance(mark, Param | Body):
            kind = type(mark).__name__
            return f"{name} is read from the request ({kind}())"
    if parameter.default is parameter.empty:
        return f"{name} is read from the request's path, query or body"
    return None


def _annotation(call: Dependency, parameter: inspect.Parameter) -> tuple[Any, tuple[Any, ...]]:
    """The type of a parameter and what `Annotated` says besides."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        annotation = _evaluated(call, annotation)
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        return inner, tuple(marks)
    return annotation, ()


def _evaluated(call: Dependency, text: str) -> Any:
    """A string annotation as the object it names; itself if that is for type checkers only."""
    func: Any = inspect.unwrap(call)
    while hasattr(func, "func"):  # functools.partial
        func = inspect.unwrap(func.func)
    if isinstance(func, type):
        func = inspect.getattr_static(func, "__init__")
    elif not hasattr(func, "__globals__") and not hasattr(func, "__func__"):
        func = type(func).__call__
    func = getattr(func, "__func__", func)
    names = {**vars(builtins), **getattr(func, "__globals__", {})}
    closure = getattr(func, "__closure__", None)
    if closure:
        names |= dict(zip(func.__code__.co_freevars, _cells(closure), strict=True))
    try:
        return eval(text, names)
    except Exception:
        return text


def _cells(closure: tuple[Any, ...]) -> list[Any]:
    found = []
    for cell in closure:
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            found.append(None)
    return found


def _may_have_needs(func: Any) -> bool:
    """A quick look that spares most functions the slow one."""
    func = inspect.unwrap(func)
    if not inspect.isfunction(func):
        return True
    return bool(func.__code__.co_argcount or func.__code__.co_kwonlyargcount)


def _called(call: Any) -> str:
    return getattr(call, "__qualname__", None) or type(call).__qualname__
