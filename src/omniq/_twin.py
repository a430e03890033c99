"""What every blocking class is made of. The classes themselves are generated: `sync.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, ParamSpec, Self, TypeVar

from omniq._portal import by_caller, portal
from omniq.errors import StorageClosed
from omniq.session import Lent

P = ParamSpec("P")
T = TypeVar("T")


class Twin:
    """The blocking face of one async object: what is asked of it happens on the loop thread.

    After a fork the child must not touch what the parent has open, so the async object is
    made anew there from the same arguments, at the next call.
    """

    _made: Any
    _again: Callable[[Any], Any] | None
    _generation: int

    def _adopt(self, make: Callable[[], Any]) -> None:
        self._hold(make(), lambda _: make())

    def _hold(self, made: object, again: Callable[[Any], Any] | None) -> Self:
        self._made, self._again, self._generation = made, again, portal.generation
        return self

    @classmethod
    def _of(cls, made: object, again: Callable[[Any], Any] | None = None) -> Self:
        """The twin of something that exists; `again` makes that anew after a fork."""
        return cls.__new__(cls)._hold(made, again)

    def _fresh(self) -> Any:
        if self._generation != portal.generation:
            if self._again is None:
                kind = type(self).__name__
                raise StorageClosed(
                    f"this {kind} was made before a fork and belongs to the parent process; "
                    "ask the queue for a new one"
                )
            portal.leave_alone(self._made)
            self._hold(self._again(self._made), self._again)
        return self._made

    def _self(self, made: object) -> Self:
        return self if made is self._made else self._of(made)

    def _run(
        self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        if (connection := kwargs.get("connection")) is None:
            return portal.run(partial(function, *args, **kwargs))
        # It may be used in this thread only: what is done with it is done here, by who waits.
        kwargs["connection"] = Lent(connection, by_caller)
        portal.desks += 1
        try:
            return portal.run(partial(function, *args, **kwargs))
        finally:
            portal.desks -= 1

    def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return portal.call(partial(function, *args, **kwargs))

    def _iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        return portal.iterate(items)

    @contextmanager
    def _within(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        value = portal.run(manager.__aenter__)
        try:
            yield value
        except BaseException as error:
            trace = error.__traceback__
            if not portal.run(partial(manager.__aexit__, type(error), error, trace)):
                raise
        else:
            portal.run(partial(manager.__aexit__, None, None, None))

    def __repr__(self) -> str:
        return f"<blocking {self._made!r}>"


class Entered(Twin):
    """A twin to be used by `with`."""

    def __enter__(self) -> Self:
        self._run(self._fresh().__aenter__)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._fresh().__aexit__, kind, error, trace)


class Owned(Entered):
    """A twin that holds connections: closed at exit, unless its user closed it before."""

    _closer: ClassVar[str]
    """The method that lets go."""
    _grace: ClassVar[tuple[float, ...]]
    """What it is called with at exit: nobody waits then for running tasks."""

    def _run(
        self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        self._keep()
        return super()._run(function, *args, **kwargs)

    def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._keep()
        return super()._call(function, *args, **kwargs)

    def _iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        self._keep()
        return super()._iterate(items)

    def _keep(self) -> None:
        portal.keep(self._made, partial(getattr(self._made, self._closer), *self._grace))

    def _let_go(
        self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        done = super()._run(function, *args, **kwargs)
        portal.release(self._made)
        return done

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._let_go(self._fresh().__aexit__, kind, error, trace)


class StrTwin(Twin, str):
    """A twin that is a string besides; sent or stored, only the string is left."""

    @classmethod
    def _of(cls, made: object, again: Callable[[Any], Any] | None = None) -> Self:
        return cls.__new__(cls, made)._hold(made, again)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """To pydantic, and so to FastAPI's answers, it is the string it is."""
        return handler(str)

    def __repr__(self) -> str:
        return str.__repr__(self)

    def __omniq_plain__(self) -> str:
        """As an argument of another task it is its string."""
        return str.__str__(self)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str.__str__(self),)


def inner(value: Any) -> Any:
    """What the async side is to be given: the async object behind a twin.

    A storage or backend the parent process may have opened is replaced by its `twin()` in
    a forked child.
    """
    if isinstance(value, Twin):
        return value._fresh()
    if portal.generation and callable(twin := getattr(value, "twin", None)):
        return twin()
    return value
