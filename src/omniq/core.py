"""The queue object: `AsyncOmniQ` from parts or a configuration, `AsyncTaskQueue` the shorthand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import Context
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from omniq.backend import Backend, checked_backend, create_stores
from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.config import load_config
from omniq.decorator import TaskFunction, set_default, unset_default
from omniq.errors import ConfigError, NotStarted
from omniq.handle import AsyncTaskHandle
from omniq.ids import uuid7
from omniq.models.config import OmniQConfig
from omniq.models.filters import EventFilter, EventPage, QueueCount, TaskFilter
from omniq.models.info import TaskInfo, TaskList
from omniq.models.result import TaskResult
from omniq.models.row import TaskRow
from omniq.models.task import JoinOptions, Task, WorkerKind
from omniq.models.units import Insert, Move
from omniq.models.worker import MinuteMetric, WorkerCard
from omniq.queue import acts
from omniq.queue.answers import (
    accepted,
    all_accepted,
    metric_key,
    metrics_of,
    not_found,
    value_of,
    workers_of,
)
from omniq.queue.batcher import Answer
from omniq.queue.engine import Around, Engine, checked, task_from
from omniq.queue.stores import Stores
from omniq.queue.waiting import Ended
from omniq.session import Instead, Session, manager_for, tell
from omniq.storage.base import BaseEventStorage, BaseResultStorage, BaseTaskQueue, Ear
from omniq.workers import WorkerPool

R = TypeVar("R")


class AsyncOmniQ:
    """A task queue with everything around it.

    Built from a configuration (a struct, a mapping, a YAML file's path, the environment) or
    from parts: a `backend`, or up to three storages. Options such as `storage_type`,
    `worker_type` or `max_workers` overrule the configuration. Opens at first use; `async
    with` or `close()` ends it, and so does the end of the event loop.
    """

    def __init__(
        self,
        config: OmniQConfig | Mapping[str, Any] | str | Path | None = None,
        *,
        backend: Backend | None = None,
        task_queue: BaseTaskQueue | None = None,
        result_storage: BaseResultStorage | None = None,
        event_storage: BaseEventStorage | None = None,
        clock: Clock = SYSTEM_CLOCK,
        **options: Any,
    ) -> None:
        if backend is not None:
            task_queue = checked_backend(backend, task_queue=task_queue, **options).storage
        self.config: OmniQConfig = load_config(config, **options)
        self.client = uuid7()
        self.embedded: bool = self.config.worker.embedded
        """Whether enqueueing starts a worker in this process."""
        self.around: list[Around] = []
        """What this process's workers put around every call, the innermost first."""
        self.instead: Instead | None = None
        """Who runs tasks here in place of a worker; tests set it (see `omniq.testing`)."""
        self._clock = clock
        self._parts = (task_queue, result_storage, event_storage)
        self._made: Stores | None = None
        self._engine: Engine | None = None
        self._session: Session | None = None
        self._opening: asyncio.Task[None] | None = None
        self._worker: WorkerPool | None = None
        self._starting: asyncio.Task[None] | None = None

    # -- open and close ------------------------------------------------------------------

    async def open(self) -> None:
        """Connect to the places; again: no effect. Happens by itself at first use."""
        session, loop = self._session, asyncio.get_running_loop()
        if session is not None and session.loop is loop:
            return
        if session is not None:
            if not session.loop.is_closed():
                raise ConfigError(
                    "this queue is open on another event loop: close() it there first, "
                    "or use one queue object per loop"
                )
            self._forget()
        if self._opening is None or self._opening.get_loop() is not loop:
            # Not in the context of whoever comes first: all tasks would inherit it.
            self._opening = loop.create_task(self._open(), name="omniq-open", context=Context())
        await asyncio.shield(self._opening)

    async def close(self, grace: float | None = None) -> None:
        """Stop the embedded worker (`grace` seconds for what runs) and let go of the places."""
        unset_default(self)
        await self._begun(self._opening)
        await self.stop_worker(grace)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _open(self) -> None:
        try:
            stores = self._stores()
            self._engine = Engine(
                self.config,
                manager_for(self.config, stores.tasks.capabilities, stores.results.capabilities),
                client=self.client,
                clock=self._clock,
                around=self.around,
            )
            session = Session(self._engine, stores, left=lambda: self.close(0))
            await session.open()
            self._session = session
            set_default(self)
        finally:
            self._opening = None

    def _stores(self) -> Stores:
        if self._made is None:
            self._made = create_stores(self.config, *self._parts, clock=self._clock)
        return self._made

    def _forget(self) -> None:
        """The loop we lived on was closed under us: start anew with fresh connections."""
        assert self._made is not None
        self._made = self._made.twin()
        self._session = self._worker = self._starting = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ready(self) -> Session:
        session = self._session
        if session is None or session.loop is not asyncio.get_running_loop():
            await self.open()
            session = self._session
            assert session is not None
        return session

    # -- what workers need ---------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """The rules; after `open`."""
        if self._engine is None:
            raise NotStarted("the queue is not open: `await queue.open()` or `async with queue:`")
        return self._engine

    @property
    def stores(self) -> Stores:
        """The places."""
        return self._stores()

    def settled(self, moves: list[Move]) -> None:
        """A worker of this process settled these: whoever waits here is told first."""
        if self._session is not None:
            self._session.waiter.hint(moves)

    async def start_worker(self) -> WorkerPool:
        """Start the worker in this process; again: the one that runs."""
        await self._ready()
        if self.instead is not None:
            return WorkerPool.configured(self, self.config.worker, embedded=True)
        if self._worker is None:
            if self._starting is None:
                self._starting = asyncio.get_running_loop().create_task(
                    self._start_worker(), name="omniq-start", context=Context()
                )
            await asyncio.shield(self._starting)
        assert self._worker is not None
        return self._worker

    async def _work(self, session: Session, *awaited: str) -> None:
        """Whoever enqueues or waits here also works here, unless told otherwise."""
        if self.instead is not None:
            await self.instead.awaited(awaited)
        elif self.embedded and self._worker is None and self._session is session:
            await self.start_worker()

    async def _start_worker(self) -> None:
        try:
            worker = WorkerPool.configured(self, self.config.worker, embedded=True)
            await worker.start()
            self._worker = worker
        finally:
            self._starting = None

    async def stop_worker(self, grace: float | None = None) -> None:
        """Stop the worker in this process, giving running tasks `grace` seconds."""
        await self._begun(self._starting)
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.stop(grace)

    @staticmethod
    async def _begun(task: asyncio.Task[None] | None) -> None:
        """Let an opening or a start come to its end, so that it can be undone."""
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([task])

    # -- enqueue -------------------------------------------------------------------------

    @overload
    async def enqueue(
        self,
        func: TaskFunction[..., Any, R],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JoinOptions],
    ) -> AsyncTaskHandle[R]: ...
    @overload
    async def enqueue(
        self,
        func: Callable[..., Coroutine[Any, Any, R]],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JoinOptions],
    ) -> AsyncTaskHandle[R]: ...
    @overload
    async def enqueue(
        self,
        func: Callable[..., R],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JoinOptions],
    ) -> AsyncTaskHandle[R]: ...
    @overload
    async def enqueue(
        self,
        func: Task | str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JoinOptions],
    ) -> AsyncTaskHandle[Any]: ...
    async def enqueue(
        self,
        func: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JoinOptions],
    ) -> AsyncTaskHandle[Any]:
        """Store a task; once this returns it will be executed at least once.

        `func` is a function (sync or async), a `@task`, the name workers know it by, or a
        `Task`. Lengths of time are seconds or timedeltas. `priority`: larger runs sooner.
        `ttl`: it expires if nobody has started it by then. `depends_on`: ids that must
        succeed first. Raises InvalidTask, NotSerializable, DuplicateTask (a `unique` key
        another task holds) before anything is stored. `connection`: the task becomes part of
        the transaction open there, and is run once that commits.
        """
        connection = options.pop("connection", None)
        task = task_from(func, args, kwargs, options)
        session = self._session
        if session is None or session.loop is not asyncio.get_running_loop():
            session = await self._ready()
        insert = session.engine.insert(task)
        if connection is not None and self.instead is None:
            return (await self._join(session, connection, [insert]))[0]
        if insert.row.queue not in session.announced:
            await session.announce([insert.row.queue])
        answer = await session.batcher.put(insert)
        if self.instead is not None:
            await tell(self.instead, [task], [insert], [answer])
        elif self.embedded and self._worker is None:
            await self._work(session)
        return AsyncTaskHandle(accepted(insert, answer), self)

    async def enqueue_many(
        self, tasks: Iterable[Task], *, connection: Any = None
    ) -> list[AsyncTaskHandle[Any]]:
        """Store many tasks in few trips; all are checked before the first is stored.

        One that is refused only then (its `unique` key is held, a parent is missing) does not
        undo the others: the error's `stored` has their ids, None in the place of the refused.
        `connection`: they become part of the transaction open there.
        """
        session, tasks = await self._ready(), list(tasks)
        now = session.engine.clock.now()
        inserts = [session.engine.insert(checked(task), now) for task in tasks]
        if connection is not None and self.instead is None:
            return await self._join(session, connection, inserts)
        await session.announce(insert.row.queue for insert in inserts)
        answers = await session.batcher.put_many(inserts)
        if self.instead is not None:
            await tell(self.instead, tasks, inserts, answers)
        else:
            await self._work(session)
        return self._handles(inserts, answers)

    async def _join(
        self, session: Session, connection: object, inserts: list[Insert]
    ) -> list[AsyncTaskHandle[Any]]:
        answers = await session.join(connection, inserts)
        if self.embedded and self._worker is None and self._starting is None:
            # Nobody waits for it: it may want to write where the caller's transaction does.
            self._starting = asyncio.create_task(self._start_worker(), name="omniq-start")
        return self._handles(inserts, answers)

    def _handles(
        self, inserts: Sequence[Insert], answers: Sequence[Answer]
    ) -> list[AsyncTaskHandle[Any]]:
        return [AsyncTaskHandle(id, self) for id in all_accepted(inserts, answers)]

    # -- results -------------------------------------------------------------------------

    async def get_result(self, id: str, timeout: float | None = None) -> Any:
        """Wait until the task has ended, at most `timeout` seconds, and give its value.

        Raises TaskFailed (with the remote error as data), TaskCancelled, TaskExpired,
        TaskNotFound, ResultExpired, or ResultTimeout while it goes on.
        """
        session = await self._ready()
        id = str.__str__(id)
        await self._work(session, id)
        return value_of(session.engine, id, await session.wait(id, timeout))

    async def results(self, ids: Iterable[str]) -> AsyncIterator[TaskResult]:
        """Results in the order in which the tasks end; failures are told, not raised."""
        session = await self._ready()
        ids = [ids] if isinstance(ids, str) else ids
        ids = [str.__str__(id) for id in dict.fromkeys(ids)]
        await self._work(session, *ids)
        waits = {session.waiter.wait_for(id): id for id in ids}
        ended_first: asyncio.Queue[asyncio.Future[Ended | None]] = asyncio.Queue()
        for wait in waits:
            wait.add_done_callback(ended_first.put_nowait)
        try:
            for _ in range(len(waits)):
                wait = await ended_first.get()
                ended = wait.result()
                if ended is None:
                    raise not_found(waits[wait])
                yield session.engine.result(ended.row, ended.result)
        finally:
            for wait in waits:
                wait.cancel()

    async def result(self, id: str) -> TaskResult:
        """How a task stands now; does not wait. Raises TaskNotFound."""
        session = await self._ready()
        row = await session.row(id)
        return session.engine.result(row, (await session.stores.read_results([row])).get(row.id))

    # -- looking -------------------------------------------------------------------------

    async def info(self, id: str) -> TaskInfo:
        """Everything about one task, opened as far as is safe. Raises TaskNotFound."""
        session = await self._ready()
        row = await session.row(id)
        return session.engine.info(row, (await session.stores.read_results([row])).get(row.id))

    async def find(
        self, filter: TaskFilter | None = None, *, limit: int = 50, cursor: str | None = None
    ) -> TaskList:
        """A page of tasks, newest first unless the filter says otherwise."""
        session = await self._ready()
        page = await session.stores.tasks.find_tasks(
            filter or TaskFilter(), limit=limit, cursor=cursor
        )
        return TaskList(page.rows, page.cursor)

    async def counts(self) -> list[QueueCount]:
        """Tasks by queue and status."""
        return await (await self._ready()).stores.tasks.count_tasks()

    async def events(
        self, filter: EventFilter | None = None, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        """A page of events; `after` is the cursor of the page before."""
        session = await self._ready()
        return await session.stores.read_events(filter or EventFilter(), after=after, limit=limit)

    async def workers(self) -> list[WorkerCard]:
        """The workers that live, or have died a short while ago."""
        docs = await (await self._ready()).stores.tasks.get_docs("worker")
        return workers_of(docs)

    async def metrics(self, minutes: int = 60) -> list[MinuteMetric]:
        """What workers did in the last `minutes`: one entry per minute and worker, newest last."""
        session = await self._ready()
        after, found = metric_key(self._clock.now(), minutes), list[MinuteMetric]()
        while True:
            docs = await session.stores.tasks.get_docs("metric", after=after)
            found += metrics_of(docs)
            if len(docs) < 1000:
                return found
            after = docs[-1].key

    def listen(self, topics: Iterable[str]) -> Ear:
        """Listen for changes: `tasks`, `events`, `queue:NAME`, `docs:KIND`. After `open`."""
        return self.stores.listen(topics)

    def describe(self) -> str:
        """Where tasks are kept, in words for people."""
        return "; ".join(place.describe() for place in self.stores.places)

    # -- acting --------------------------------------------------------------------------

    async def cancel(self, id: str, *, actor: str = "") -> bool:
        """Cancel a task: at once if it has not started, else its worker is asked to stop it.

        False if it has already ended. `actor` is who asked, for the event log. Raises
        TaskNotFound.
        """
        session = await self._ready()
        row = await session.row(id)
        return await self._act(session, acts.cancel, row, actor)

    async def retry(self, id: str, *, actor: str = "") -> bool:
        """Run an ended task once more from the start, or a scheduled one now.

        False if it waits or runs, or its unique key is held by another. Raises TaskNotFound.
        """
        session = await self._ready()
        row = await session.row(id)
        done = await self._act(session, acts.retry, row, actor)
        if done:
            await self._work(session)
        return done

    async def delete(self, id: str, *, actor: str = "") -> bool:
        """Forget an ended task and its result. False if it has not ended. Raises TaskNotFound."""
        session = await self._ready()
        row = await session.row(id)
        return await self._act(session, acts.delete, row, actor)

    async def _act(self, session: Session, do: acts.Do, row: TaskRow, actor: str) -> bool:
        act = do(row, actor, self._clock.now(), session.engine.rules)
        if act is None or (await session.batcher.put(act.move)).applied not in act.done:
            return False
        if act.told.events:  # it rides with the next trip
            session.batcher.put_later(act.told)
            session.batcher.start()
        return True


class AsyncTaskQueue(AsyncOmniQ):
    """The shorthand: a queue from a few options.

    `storage_type` or `storage_url` say where tasks are kept, `worker_type` which lane runs
    tasks that name none, `max_workers` how many run at once in it.
    """

    def __init__(
        self,
        storage_type: str | None = None,
        worker_type: WorkerKind | None = None,
        max_workers: int | None = None,
        *,
        storage_url: str | None = None,
        **options: Any,
    ) -> None:
        named: dict[str, Any] = {
            "storage_type": storage_type,
            "storage_url": storage_url,
            "worker_type": worker_type,
            "max_workers": max_workers,
        }
        super().__init__(**{k: v for k, v in named.items() if v is not None}, **options)
