"""Database connections around every task as around a request: usable before, tidy behind.

Django's connections belong to threads. A sync task is cleaned up behind in the very thread that
ran it. An async one gets a thread of its own for what it asks of the ORM, as an async view
does, or else all of them would wait for each other in one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from inspect import isawaitable, iscoroutine
from typing import Any, TypeVar

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from omniq.errors import Snooze
from omniq.queue.engine import Loaded

T = TypeVar("T")

_log = logging.getLogger("omniq.django")


def clean(call: Loaded) -> Loaded:
    """The call with connections cleaned before and behind it; an `Around` of the queue."""
    return Loaded(
        _Async(call) if call.is_async else _Sync(call), call.args, call.kwargs, call.is_async
    )


class _Sync:
    """A task that runs in a thread."""

    def __init__(self, call: Loaded) -> None:
        self.__wrapped__ = call.func

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        theirs = begin()
        try:
            value = self.__wrapped__(*args, **kwargs)
        except Exception as error:
            _refused_at_exit(error)
            raise
        finally:
            end(theirs)
        return _alone(value) if iscoroutine(value) else value


class _Async:
    """A task that runs on an event loop."""

    def __init__(self, call: Loaded) -> None:
        self.__wrapped__ = call.func

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return await _alone(self._run(*args, **kwargs))

    async def _run(self, *args: Any, **kwargs: Any) -> Any:
        value = self.__wrapped__(*args, **kwargs)
        return await value if isawaitable(value) else value


async def _alone(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await it with a thread of its own behind `sync_to_async`, made when it is first needed."""
    async with ThreadSensitiveContext() as own:
        try:
            return await coroutine
        except Exception as error:
            _refused_at_exit(error)
            raise
        finally:
            if own in SyncToAsync.context_to_thread_executor:
                await sync_to_async(close_all, thread_sensitive=True)()


def _refused_at_exit(error: BaseException | None) -> None:
    """Give the task back, its attempt with it, if it failed because this process is ending.

    An embedded worker drains in a Python that starts no more threads, and an async task needs
    one for each look at the database.
    """
    while error is not None:
        if isinstance(error, RuntimeError) and "interpreter shutdown" in str(error):
            raise Snooze(0) from error
        error = error.__cause__ or error.__context__


def begin() -> list[BaseDatabaseWrapper]:
    """Make this thread's connections usable; gives those that are to be left alone.

    One in a transaction is the caller's: a test's, or that of a view which runs the task
    itself. (Django's `close_old_connections` would close it.)
    """
    theirs = [each for each in _opened() if each.in_atomic_block]
    for each in _opened():
        if each not in theirs:
            _guarded(_tidy, each)
    return theirs


def end(theirs: list[BaseDatabaseWrapper]) -> None:
    """Tidy up behind a task, so that the next one in this thread finds nothing of it."""
    for each in _opened():
        if each not in theirs:
            _guarded(_finish, each)
    _thread.farewell.wrappers = _opened()


def close_all() -> None:
    """Close this thread's connections: it is at its end."""
    for each in _opened():
        _guarded(_finish, each)
    for each in _opened():
        _guarded(BaseDatabaseWrapper.close, each)


def _opened() -> list[BaseDatabaseWrapper]:
    return list(connections.all(initialized_only=True))


def _finish(wrapper: BaseDatabaseWrapper) -> None:
    if _unfinished(wrapper):
        _log.warning(
            "a task ended inside a transaction on database %r that it had begun: it is "
            "rolled back, and the connection closed",
            wrapper.alias,
        )
        _discard(wrapper)
    else:
        _tidy(wrapper)


def _tidy(wrapper: BaseDatabaseWrapper) -> None:
    wrapper.close_if_unusable_or_obsolete()
    if not wrapper.force_debug_cursor:  # else somebody is counting queries
        wrapper.queries_log.clear()


def _unfinished(wrapper: BaseDatabaseWrapper) -> bool:
    """Whether a transaction is open that Django or the driver knows of."""
    raw = wrapper.connection
    if raw is None:
        return False
    if wrapper.in_atomic_block or getattr(raw, "in_transaction", False):  # sqlite3's word
        return True
    status = getattr(getattr(raw, "info", None), "transaction_status", None)  # psycopg's
    return status in (1, 2, 3)  # active, in a transaction, in a failed one


def _guarded(act: Callable[[BaseDatabaseWrapper], None], wrapper: BaseDatabaseWrapper) -> None:
    """A connection that is past all help is forgotten: the next one will be new."""
    try:
        act(wrapper)
    except Exception as error:
        _log.warning("a connection to database %r is given up: %s", wrapper.alias, error)
        _discard(wrapper)


def _discard(wrapper: BaseDatabaseWrapper) -> None:
    with suppress(Exception):
        wrapper.close()
    del connections[wrapper.alias]


class _Farewell:
    """Ends with its thread, and with it the connections that CONN_MAX_AGE has kept open."""

    wrappers: Sequence[BaseDatabaseWrapper] = ()

    def __del__(self) -> None:
        for each in self.wrappers:
            with suppress(Exception):
                each.close()


class _Thread(threading.local):
    def __init__(self) -> None:
        self.farewell = _Farewell()


_thread = _Thread()
