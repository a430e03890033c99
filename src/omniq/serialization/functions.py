"""Functions by name: `module:qualname`, or a script's path in the module's place.

Nothing is imported because a payload says so. A name is answered if this process registered
it (`@task`, or by enqueueing it), or if the call that names it carried a trusted signature.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, Final, Literal, NamedTuple

from omniq.errors import FunctionNotFound, InvalidTask, did_you_mean
from omniq.serialization.names import (
    MAIN,
    find,
    home_of,
    is_script,
    is_session,
    lookup,
    main_home,
    script_name,
)

Function = Callable[..., Any]


class Ref(NamedTuple):
    """A function as a row names it, and how a worker gets hold of it.

    `travel`: "name" (workers registered it too), "signed" (the name is signed, so that a
    worker may import it), "carried" (the function itself is in the payload).
    """

    name: str
    func: Function | None
    travel: Literal["name", "signed", "carried"]
    options: Any = None


StandsFor = Callable[[Any], tuple[Function, Any]]
"""The function behind an object of a framework's own kind, and its `@task` options."""


class FunctionRegistry:
    """The functions this process knows by name."""

    __slots__ = ("_adopted", "_cache", "_known")

    def __init__(self) -> None:
        self._known: dict[str, Ref] = {}
        self._cache: dict[Function, Ref] = {}
        self._adopted: dict[type, StandsFor] = {}

    def adopt(self, kind: type, stands_for: StandsFor) -> None:
        """Take objects of `kind` for the functions they stand for.

        A framework's own `@task` leaves such an object in the function's place. Whoever wrote
        that said that workers may run it: it needs no registration, once its module is loaded.
        """
        self._adopted[kind] = stands_for

    def register(self, func: Function, name: str | None = None, options: Any = None) -> str:
        """Make `func` known under `name` (by default its own) and give the name back.

        Registering a function again (a module reloaded, a notebook cell run twice) replaces
        it; two different functions cannot have one name.
        """
        named = name or _own_name(func)
        if name is None and "<lambda>" in named:
            raise InvalidTask("a lambda has no name to be found by: give one, @task('name')")
        before = self._known.get(named)
        if (
            before is not None
            and before.func is not None
            and _own_name(before.func) != _own_name(func)
        ):
            raise InvalidTask(
                f"two functions are registered as {named!r}: {_own_name(before.func)} and "
                f"{_own_name(func)}; give one of them another name"
            )
        ref = Ref(named, func, "name", options)
        self._known[named] = ref
        self._cache[func] = ref
        wrapped = getattr(func, "__wrapped__", None)
        if isinstance(wrapped, FunctionType):
            self._cache[wrapped] = ref
        return named

    def alias(self, other: Function, name: str) -> None:
        """Let an object that stands for a registered function be enqueued in its place."""
        self._cache[other] = self._known[name]

    def refer(self, func: Function | str) -> Ref:
        """How to name `func` in a row; this process then knows it by that name.

        A string is taken as the name of a function the workers register.
        """
        if isinstance(func, str):
            return self._known.get(func) or Ref(_check(func), None, "name")
        try:
            ref = self._cache.get(func)
        except TypeError:  # it cannot be hashed, so it was never kept
            ref = None
        return ref or self._adopt(func) or self._refer_new(func)

    def _adopt(self, found: Any) -> Ref | None:
        """What an adopted object stands for, from now on known by its name."""
        for kind, stands_for in self._adopted.items():
            # Not isinstance(): that asks a lazy object what it stands for, and so makes it.
            if issubclass(type(found), kind):
                func, options = stands_for(found)
                ref = self._known.get(_own_name(func))
                if ref is None or ref.options != options:
                    ref = Ref(_own_name(func), func, "signed", options)
                    self._known[ref.name] = ref
                return ref
        return None

    def _refer_new(self, func: Any) -> Ref:
        if inspect.iscoroutine(func):
            func.close()  # or Python warns that it was never awaited
            raise InvalidTask(
                f"a coroutine was given, not a function: write enqueue({func.__name__}, "
                f"args=(...)), not enqueue({func.__name__}(...))"
            )
        if not callable(func):
            raise InvalidTask(f"a task needs a function, not a value of type {type(func).__name__}")
        name = _own_name(func)
        if not _found_by_name(func):
            return Ref(name, func, "carried")
        # Nobody but this process can look into an interactive session.
        ref = Ref(name, func, "name" if is_session(name) else "signed")
        self._known[name] = ref
        self._cache[func] = ref
        return ref

    def name_of(self, func: Function) -> str:
        """The name rows have for `func`."""
        return self.refer(func).name

    def options_of(self, name: str) -> Any:
        """What `register` was given for this name, or None."""
        ref = self._known.get(name)
        return None if ref is None else ref.options

    def knows(self, name: str) -> bool:
        """Whether the name would be answered without a signature."""
        return name in self._known

    def names(self) -> list[str]:
        """Every name known now."""
        return sorted(self._known)

    def resolve(self, name: str, *, signed: bool = False) -> Function:
        """The function of that name.

        `signed` is what `decode_call` found: only then may a name lead to an import.
        """
        ref = self._known.get(name)
        if ref is None and self._adopted:
            home, _, qualname = name.rpartition(":")
            ref = self._adopt(lookup("__main__" if home == main_home() else home, qualname))
        if ref is None and signed:
            ref = self._import(name)
        if ref is None or ref.func is None:
            raise FunctionNotFound(self._unknown(name))
        return ref.func

    def _import(self, name: str) -> Ref:
        home, _, qualname = name.rpartition(":")
        if is_session(home) or "<" in qualname or not home:
            raise FunctionNotFound(self._unknown(name))
        if home == main_home():
            func = lookup("__main__", qualname)
        elif is_script(home):
            raise FunctionNotFound(
                f"task function {qualname!r} belongs to the script {home}, and this process is "
                f"not that script: run `python {script_name(home)}` again, or move the function "
                "to a module that workers can import"
            )
        else:
            try:
                func = find(importlib.import_module(home), qualname)
            except Exception as error:
                raise FunctionNotFound(
                    f"task function {name!r}: its module cannot be imported here "
                    f"({type(error).__name__}: {error}); start the worker where it is installed, "
                    "with the same PYTHONPATH"
                ) from error
        # Importing may have run @task, which knows more than the bare name.
        known = self._known.get(name) or self._adopt(func)
        if known is not None:
            return known
        if not callable(func) or not name.endswith(f":{getattr(func, '__qualname__', '')}"):
            raise FunctionNotFound(
                f"task function {name!r}: {home} has no function {qualname!r} any more; bring "
                "it back, or cancel the task"
            )
        ref = Ref(name, func, "signed")
        self._known[name] = ref
        return ref

    def _unknown(self, name: str) -> str:
        home, _, qualname = name.rpartition(":")
        if is_session(home):
            return (
                f"task function {qualname!r} was defined in an interactive session or with "
                "`python -c`, which has ended: put it into a file"
            )
        return (
            f"task function {name!r} is not registered in this process: import its module "
            "before the worker starts, and decorate it with @task "
            f"(or share OMNIQ_SIGNING_KEYS, so that its name is signed)"
            f"{did_you_mean(name, self._known) if self._known else ''}"
        )


FUNCTIONS: Final = FunctionRegistry()
"""The registry of this process; `@task` registers here."""


def _own_name(func: Any) -> str:
    """`home:qualname` of any callable.

    What has no name of its own is called after what is behind it, with brackets, so that
    the name leads nowhere: `app:partial(f)`, `app:Shop().pay`, `app:Shop()`.
    """
    shape = "{}"
    while isinstance(func, functools.partial):
        shape, func = f"partial({shape})", func.func
    if isinstance(func, MethodType) and not isinstance(func.__self__, type):
        owner = type(func.__self__)
        return (
            f"{home_of(owner.__module__)}:{shape.format(f'{owner.__qualname__}().{func.__name__}')}"
        )
    if getattr(func, "__qualname__", None) is None:
        func = getattr(func, "__wrapped__", None) or func
    if getattr(func, "__qualname__", None) is None:
        func, shape = type(func), shape.format("{}()")
    return f"{home_of(func.__module__ or 'builtins')}:{shape.format(func.__qualname__)}"


def _found_by_name(func: Any) -> bool:
    """Whether looking the name up gives this very function (or what wraps it)."""
    module, qualname = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    if module is None or qualname is None or "<" in qualname:
        return False
    # A module started with -m has a second name, but is loaded as __main__.
    found = lookup("__main__" if module in MAIN else module, qualname)
    return (
        found is func
        or getattr(found, "__wrapped__", None) is func
        or (isinstance(func, MethodType) and isinstance(func.__self__, type) and found == func)
    )


def _check(name: str) -> str:
    if not name or len(name) > 500 or any(c.isspace() and c != " " for c in name):
        raise InvalidTask(f"{name[:100]!r} is not a function's name")
    return name
