"""`queue` for sync code and `aqueue` for async code: OmniQ in the habits of Django.

Both stand for the one queue of this process, which is made when it is first used. With
`OMNIQ["DATABASE"]` whatever can be done on Django's own connection is done there, inside the
transaction that is open in the calling thread; only waiting needs the native queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, Unpack, overload

from asgiref.sync import sync_to_async
from django.db import DEFAULT_DB_ALIAS, transaction
from msgspec import UNSET

from omniq.contrib.django.conf import django_settings
from omniq.contrib.django.handle import TaskHandle
from omniq.contrib.django.runtime import blocking, native, on_loop, refuse_async
from omniq.core import AsyncOmniQ
from omniq.decorator import TaskFunction
from omniq.errors import InvalidTask, did_you_mean
from omniq.handle import AsyncTaskHandle
from omniq.models.filters import EventFilter, EventPage, QueueCount, TaskFilter
from omniq.models.info import TaskInfo, TaskList
from omniq.models.result import TaskResult
from omniq.models.task import EnqueueOptions, Task
from omniq.models.worker import MinuteMetric, WorkerCard
from omniq.queue.engine import checked, task_from
from omniq.sync import OmniQ

if TYPE_CHECKING:
    from omniq.within import Within

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

OnCommit = bool | str | None
"""Whether to wait for the end of the transaction: of the default database (True), of another
one (its alias), as `ENQUEUE_ON_COMMIT` says (None)."""


class DjangoQueue:
    """The queue for views, models and commands: every call blocks until it is done.

    In async code each raises `SyncInAsync`: use `aqueue` there.
    """

    @overload
    def enqueue(
        self,
        func: TaskFunction[..., Any, R],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        on_commit: OnCommit = None,
        **options: Unpack[EnqueueOptions],
    ) -> TaskHandle[R]: ...
    @overload
    def enqueue(
        self,
        func: Callable[..., Coroutine[Any, Any, R]],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        on_commit: OnCommit = None,
        **options: Unpack[EnqueueOptions],
    ) -> TaskHandle[R]: ...
    @overload
    def enqueue(
        self,
        func: Callable[..., R],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        on_commit: OnCommit = None,
        **options: Unpack[EnqueueOptions],
    ) -> TaskHandle[R]: ...
    @overload
    def enqueue(
        self,
        func: Task | str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        on_commit: OnCommit = None,
        **options: Unpack[EnqueueOptions],
    ) -> TaskHandle[Any]: ...
    def enqueue(
        self,
        func: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        on_commit: OnCommit = None,
        **options: Unpack[EnqueueOptions],
    ) -> TaskHandle[Any]:
        """Store a task; its id is known at once.

        `func`, `args`, `kwargs` and the options are those of `OmniQ.enqueue`. `on_commit`
        says whether to wait for the end of the transaction that is open; a task that waits
        is checked at once, and forgotten if the transaction rolls back.
        """
        _refuse_async("enqueue")
        return self._enqueue([task_from(func, args, kwargs, options)], on_commit)[0]

    def enqueue_many(
        self, tasks: Iterable[Task], *, on_commit: OnCommit = None
    ) -> list[TaskHandle[Any]]:
        """Store many tasks in few trips; all are checked before the first is stored."""
        _refuse_async("enqueue_many")
        return self._enqueue([checked(task) for task in tasks], on_commit)

    def _enqueue(self, tasks: list[Task], on_commit: OnCommit) -> list[TaskHandle[Any]]:
        _check_queues(tasks)
        if (alias := _awaited(on_commit)) is not None:
            _check_now(tasks)
            transaction.on_commit(partial(self._store, tasks), using=alias)
        else:
            self._store(tasks)
        return [TaskHandle(task.id, self) for task in tasks]

    def _store(self, tasks: list[Task]) -> None:
        place = _place()
        if len(tasks) == 1:
            place.enqueue(tasks[0])
        else:
            place.enqueue_many(tasks)

    def get_result(self, id: str, timeout: float | None = None) -> Any:
        """Wait until the task has ended, at most `timeout` seconds, and give its value.

        Raises TaskFailed (with the remote error as data), TaskCancelled, TaskExpired,
        TaskNotFound, ResultExpired, or ResultTimeout while it goes on.
        """
        _refuse_async("get_result")
        here = _here()
        return blocking().get_result(id, timeout) if here is None else here.get_result(id)

    def results(self, ids: Iterable[str]) -> Iterator[TaskResult]:
        """Results in the order in which the tasks end; failures are told, not raised."""
        _refuse_async("results")
        return (_here() or blocking()).results(ids)

    def result(self, id: str) -> TaskResult:
        """How a task stands now; does not wait. Raises TaskNotFound."""
        _refuse_async("result")
        return _place().result(id)

    def info(self, id: str) -> TaskInfo:
        """Everything about one task, opened as far as is safe. Raises TaskNotFound."""
        _refuse_async("info")
        return _place().info(id)

    def find(
        self, filter: TaskFilter | None = None, *, limit: int = 50, cursor: str | None = None
    ) -> TaskList:
        """A page of tasks, newest first unless the filter says otherwise."""
        _refuse_async("find")
        return _place().find(filter, limit=limit, cursor=cursor)

    def counts(self) -> list[QueueCount]:
        """Tasks by queue and status."""
        _refuse_async("counts")
        return _place().counts()

    def events(
        self, filter: EventFilter | None = None, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        """A page of events; `after` is the cursor of the page before."""
        _refuse_async("events")
        return _place().events(filter, after=after, limit=limit)

    def workers(self) -> list[WorkerCard]:
        """The workers that live, or have died a short while ago."""
        _refuse_async("workers")
        return _place().workers()

    def metrics(self, minutes: int = 60) -> list[MinuteMetric]:
        """What workers did in the last `minutes`: one entry per minute and worker, newest last."""
        _refuse_async("metrics")
        return _place().metrics(minutes)

    def cancel(self, id: str, *, actor: str = "") -> bool:
        """Cancel a task: at once if it has not started, else its worker is asked to stop it.

        False if it has already ended. `actor` is who asked, for the event log. Raises
        TaskNotFound.
        """
        _refuse_async("cancel")
        return _place().cancel(id, actor=actor)

    def retry(self, id: str, *, actor: str = "") -> bool:
        """Run an ended task once more from the start, or a scheduled one now.

        False if it waits or runs, or its unique key is held by another. Raises TaskNotFound.
        """
        _refuse_async("retry")
        return _place().retry(id, actor=actor)

    def delete(self, id: str, *, actor: str = "") -> bool:
        """Forget an ended task and its result. False if it has not ended. Raises TaskNotFound."""
        _refuse_async("delete")
        return _place().delete(id, actor=actor)

    def describe(self) -> str:
        """Where tasks are kept, in words for people."""
        return blocking().describe()

    def __repr__(self) -> str:
        return "<OmniQ queue of this Django process>"


class AsyncDjangoQueue:
    """The queue for async views: the same, awaited, from any event loop."""

    @overload
    async def enqueue(
        self,
        func: TaskFunction[..., Any, R],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        on_commit: OnCommit = None,
        **options: Unpack[EnqueueOptions],
    ) -> AsyncTaskHandle[R]: ...
    @overload
    async def enqueue(
        self,
        func: Callable[..., Coroutine[Any, Any, R]],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        on_commit: OnCommit = None,
        **options: Unpack[EnqueueOptions],
    ) -> AsyncTaskHandle[R]: ...
    @overload
    async def enqueue(
        self,
        func: Callable[..., R],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        on_commit: OnCommit = None,
        **options: Unpack[EnqueueOptions],
    ) -> AsyncTaskHandle[R]: ...
    @overload
    async def enqueue(
        self,
        func: Task | str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        on_commit: OnCommit = None,
        **options: Unpack[EnqueueOptions],
    ) -> AsyncTaskHandle[Any]: ...
    async def enqueue(
        self,
        func: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        on_commit: OnCommit = None,
        **options: Unpack[EnqueueOptions],
    ) -> AsyncTaskHandle[Any]:
        """Store a task; its id is known at once. Everything else is as in `queue.enqueue`."""
        return (await self._enqueue([task_from(func, args, kwargs, options)], on_commit))[0]

    async def enqueue_many(
        self, tasks: Iterable[Task], *, on_commit: OnCommit = None
    ) -> list[AsyncTaskHandle[Any]]:
        """Store many tasks in few trips; all are checked before the first is stored."""
        return await self._enqueue([checked(task) for task in tasks], on_commit)

    async def _enqueue(self, tasks: list[Task], on_commit: OnCommit) -> list[AsyncTaskHandle[Any]]:
        if _by_django() or _awaited(on_commit) is not None:
            # Transactions are a matter of the thread that Django gives to sync code.
            await _in_thread(queue._enqueue, tasks, on_commit)
        else:
            _check_queues(tasks)
            if len(tasks) == 1:
                await on_loop(native().enqueue, tasks[0])
            else:
                await on_loop(native().enqueue_many, tasks)
        return [AsyncTaskHandle(task.id, self) for task in tasks]

    async def get_result(self, id: str, timeout: float | None = None) -> Any:
        """Wait until the task has ended, at most `timeout` seconds, and give its value.

        Raises TaskFailed (with the remote error as data), TaskCancelled, TaskExpired,
        TaskNotFound, ResultExpired, or ResultTimeout while it goes on.
        """
        if _by_django() and (here := await _in_thread(_here)) is not None:
            return await _in_thread(here.get_result, id)
        return await on_loop(native().get_result, id, timeout)

    async def results(self, ids: Iterable[str]) -> AsyncIterator[TaskResult]:
        """Results in the order in which the tasks end; failures are told, not raised."""
        ids = [ids] if isinstance(ids, str) else ids
        waits = {asyncio.ensure_future(self._ended(id)) for id in dict.fromkeys(ids)}
        try:
            for ended in asyncio.as_completed(waits):
                yield await ended
        finally:
            for wait in waits:
                wait.cancel()

    async def _ended(self, id: str) -> TaskResult:
        if _by_django() and (here := await _in_thread(_here)) is not None:
            return await _in_thread(lambda: next(here.results([id])))

        async def first() -> TaskResult:
            return await anext(native().results([id]))

        return await on_loop(first)

    async def result(self, id: str) -> TaskResult:
        """How a task stands now; does not wait. Raises TaskNotFound."""
        return await _asked(queue.result, AsyncOmniQ.result, id)

    async def info(self, id: str) -> TaskInfo:
        """Everything about one task, opened as far as is safe. Raises TaskNotFound."""
        return await _asked(queue.info, AsyncOmniQ.info, id)

    async def find(
        self, filter: TaskFilter | None = None, *, limit: int = 50, cursor: str | None = None
    ) -> TaskList:
        """A page of tasks, newest first unless the filter says otherwise."""
        return await _asked(queue.find, AsyncOmniQ.find, filter, limit=limit, cursor=cursor)

    async def counts(self) -> list[QueueCount]:
        """Tasks by queue and status."""
        return await _asked(queue.counts, AsyncOmniQ.counts)

    async def events(
        self, filter: EventFilter | None = None, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        """A page of events; `after` is the cursor of the page before."""
        return await _asked(queue.events, AsyncOmniQ.events, filter, after=after, limit=limit)

    async def workers(self) -> list[WorkerCard]:
        """The workers that live, or have died a short while ago."""
        return await _asked(queue.workers, AsyncOmniQ.workers)

    async def metrics(self, minutes: int = 60) -> list[MinuteMetric]:
        """What workers did in the last `minutes`: one entry per minute and worker, newest last."""
        return await _asked(queue.metrics, AsyncOmniQ.metrics, minutes)

    async def cancel(self, id: str, *, actor: str = "") -> bool:
        """Cancel a task: at once if it has not started, else its worker is asked to stop it.

        False if it has already ended. `actor` is who asked, for the event log. Raises
        TaskNotFound.
        """
        return await _asked(queue.cancel, AsyncOmniQ.cancel, id, actor=actor)

    async def retry(self, id: str, *, actor: str = "") -> bool:
        """Run an ended task once more from the start, or a scheduled one now.

        False if it waits or runs, or its unique key is held by another. Raises TaskNotFound.
        """
        return await _asked(queue.retry, AsyncOmniQ.retry, id, actor=actor)

    async def delete(self, id: str, *, actor: str = "") -> bool:
        """Forget an ended task and its result. False if it has not ended. Raises TaskNotFound."""
        return await _asked(queue.delete, AsyncOmniQ.delete, id, actor=actor)

    def describe(self) -> str:
        """Where tasks are kept, in words for people."""
        return blocking().describe()

    def __repr__(self) -> str:
        return "<async OmniQ queue of this Django process>"


def _by_django() -> bool:
    """Whether tasks live in a database of Django's."""
    return django_settings().database is not None


def _place() -> OmniQ | Within:
    """Who does what needs no waiting."""
    if not _by_django():
        return blocking()
    from omniq.contrib.django.database import within

    return within()


def _here() -> Within | None:
    """Who alone can look for results: a wait would never end in this thread's transaction."""
    if not _by_django():
        return None
    from omniq.contrib.django.database import cannot_wait, within

    return within() if cannot_wait() else None


def _awaited(on_commit: OnCommit) -> str | None:
    """The alias of the database whose commit is waited for."""
    if on_commit is None:
        settings = django_settings()
        on_commit = settings.enqueue_on_commit and settings.database is None
    if isinstance(on_commit, str):
        return on_commit
    return DEFAULT_DB_ALIAS if on_commit else None


def _check_now(tasks: list[Task]) -> None:
    if not _by_django():
        blocking()._run(partial(_check, tasks))
        return
    # Not by the native queue: opening it would wait for the transaction that is open here.
    from omniq.contrib.django.database import within

    engine = within().engine
    for task in tasks:
        engine.insert(task)


async def _check(tasks: list[Task]) -> None:
    """Raise what enqueueing them would."""
    omniq = native()
    await omniq.open()
    for task in tasks:
        omniq.engine.insert(task)


async def _asked(
    by_django: Callable[P, T],
    natively: Callable[Concatenate[AsyncOmniQ, P], Coroutine[Any, Any, T]],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Ask where the tasks live: in a transaction of Django's thread, or on the loop thread."""
    if _by_django():
        return await _in_thread(by_django, *args, **kwargs)
    return await on_loop(natively, native(), *args, **kwargs)


async def _in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await sync_to_async(function, thread_sensitive=True)(*args, **kwargs)


def _check_queues(tasks: Iterable[Task]) -> None:
    """Refuse a queue that nobody will look into, where `QUEUES` says which there are."""
    known = django_settings().queues
    for task in tasks if known else ():
        name = task.queue
        if name is UNSET and isinstance(task.func, TaskFunction):
            name = task.func.options.queue
        if name is not UNSET and name not in known:
            raise InvalidTask(
                f'queue {name!r} is not one of OMNIQ["QUEUES"]{did_you_mean(name, known)}'
            )


def _refuse_async(name: str) -> None:
    """Refuse a call of `queue` where an event loop runs."""
    instead = f"await aqueue.{name}(...)"
    if name == "results":
        instead = "async for result in aqueue.results(...)"
    refuse_async(f"queue.{name}()", instead, " (from omniq.contrib.django import aqueue)")


queue = DjangoQueue()
aqueue = AsyncDjangoQueue()
