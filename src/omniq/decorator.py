"""`@task`: a function that says once how it wants to be run, and can be enqueued by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import update_wrapper
from typing import Any, Generic, NamedTuple, ParamSpec, Protocol, TypeVar, overload

from msgspec import UNSET, UnsetType

from omniq.errors import NotStarted
from omniq.handle import AsyncTaskHandle
from omniq.models.task import Seconds, Task, WorkerKind
from omniq.queue.checks import tag_names
from omniq.queue.options import TaskOptions, exception_names
from omniq.serialization import FUNCTIONS

P = ParamSpec("P")
C = TypeVar("C")
R = TypeVar("R")


class Taker(Protocol):
    """A queue that takes tasks."""

    async def enqueue(self, func: Task) -> AsyncTaskHandle[Any]: ...


_default: list[Taker] = []


def set_default(queue: Taker) -> None:
    """The queue that `f.enqueue(...)` uses: the one opened last."""
    unset_default(queue)
    _default.append(queue)


def unset_default(queue: Taker) -> None:
    """Forget a queue that was closed."""
    _default[:] = [known for known in _default if known is not queue]


class Fallback(NamedTuple):
    """Where functions enqueue themselves if no queue is open: a framework's own, opened lazily."""

    enqueue: Callable[[Task], Any]
    """Blocks, and gives a handle."""
    aenqueue: Callable[[Task], Awaitable[AsyncTaskHandle[Any]]]


_fallback: Fallback | None = None


def set_fallback(fallback: Fallback | None) -> Fallback | None:
    """Take this one from now on; gives the one before."""
    global _fallback
    before, _fallback = _fallback, fallback
    return before


def fallback() -> Fallback | None:
    """The one to use now: none while a queue is open."""
    return None if _default else _fallback


class TaskFunction(Generic[P, C, R]):
    """A function with options. Calling it runs it here and now, as ever.

    `C` is what a call gives and `R` the result. Of a coroutine function `C` is spelled with
    `object` and not `Any`: type checkers give up on overloads where an argument holds `Any`.
    """

    __wrapped__: Callable[P, C]
    __name__: str

    def __init__(self, func: Callable[P, C], options: TaskOptions, name: str) -> None:
        update_wrapper(self, func)
        self.options, self.name = options, name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        return self.__wrapped__(*args, **kwargs)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> AsyncTaskHandle[R]:
        """Enqueue a call with these arguments on the queue opened last."""
        task = Task(func=self.__wrapped__, args=args, kwargs=kwargs)
        if (instead := fallback()) is not None:
            return await instead.aenqueue(task)
        if not _default:
            raise NotStarted(
                f"{self.name}: no queue is open to enqueue on. Open one first "
                "(`async with AsyncOmniQ() as queue:`, or start the app it belongs to), "
                "or write `await queue.enqueue(f, args=(...))`"
            )
        return await _default[-1].enqueue(task)

    def __repr__(self) -> str:
        return f"<task {self.name}>"


class TaskDecorator(Protocol):
    """What `@task(...)` with options gives."""

    @overload
    def __call__(
        self, func: Callable[P, Coroutine[Any, Any, R]], /
    ) -> TaskFunction[P, Coroutine[object, object, R], R]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> TaskFunction[P, R, R]: ...


@overload
def task(
    func: Callable[P, Coroutine[Any, Any, R]], /
) -> TaskFunction[P, Coroutine[object, object, R], R]: ...
@overload
def task(func: Callable[P, R], /) -> TaskFunction[P, R, R]: ...
@overload
def task(
    name: str | None = None,
    /,
    *,
    queue: str | UnsetType = UNSET,
    priority: int | UnsetType = UNSET,
    retries: int | UnsetType = UNSET,
    retry_delay: float | UnsetType = UNSET,
    retry_on: type[BaseException] | str | Iterable[type[BaseException] | str] = (),
    never_retry: type[BaseException] | str | Iterable[type[BaseException] | str] = (),
    timeout: Seconds | UnsetType | None = UNSET,
    ttl: Seconds | UnsetType | None = UNSET,
    result_ttl: Seconds | UnsetType | None = UNSET,
    tags: Iterable[str] | UnsetType = UNSET,
    worker: WorkerKind | UnsetType = UNSET,
) -> TaskDecorator: ...
def task(func: Any = None, /, **options: Any) -> Any:
    """Make a function a task that workers know by name.

    `name` (the first argument, if it is text) replaces `module:qualname`. `retry_on` and
    `never_retry` take exception classes or their dotted names; lengths are seconds or
    timedeltas; `worker` is the lane: "async" or "thread". Everything can be overruled when
    a task is enqueued.
    """
    if callable(func):
        return _make(func, None, {})
    return lambda f: _make(f, func, options)


def _make(func: Callable[..., Any], name: str | None, given: dict[str, Any]) -> Any:
    for option in ("retry_on", "never_retry"):
        if option in given:
            given[option] = exception_names(given[option], option=option)
    if given.get("tags", UNSET) is not UNSET:
        given["tags"] = tag_names(given["tags"])
    options = TaskOptions.checked(given)
    named = FUNCTIONS.register(func, name, options)
    made: TaskFunction[Any, Any, Any] = TaskFunction(func, options, named)
    FUNCTIONS.alias(made, named)
    return made
