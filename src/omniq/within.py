"""A queue seen through somebody else's connection: all happens in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar, Unpack, overload

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.decorator import TaskFunction
from omniq.errors import ResultTimeout
from omniq.handle import R_co
from omniq.ids import uuid7
from omniq.models.config import OmniQConfig
from omniq.models.filters import (
    Batch,
    Claim,
    EventFilter,
    EventPage,
    Held,
    HeldTask,
    Page,
    QueueCount,
    TaskFilter,
)
from omniq.models.info import TaskInfo, TaskList
from omniq.models.result import TaskResult
from omniq.models.row import Doc, Ms, ResultRow, TaskRow
from omniq.models.status import ResultStatus
from omniq.models.task import EnqueueOptions, Task
from omniq.models.units import Insert, Receipt, Unit
from omniq.models.worker import MinuteMetric, WorkerCard
from omniq.queue import acts
from omniq.queue.answers import (
    all_accepted,
    metric_key,
    metrics_of,
    not_found,
    value_of,
    workers_of,
)
from omniq.queue.batcher import Answer, answer_of, batches
from omniq.queue.engine import Around, Engine, announcement, checked, task_from
from omniq.queue.stores import that_count
from omniq.queue.waiting import Ended
from omniq.session import manager_for
from omniq.storage.base import Capabilities

R = TypeVar("R")


class Place(Protocol):
    """The port without waiting, over a connection that is the caller's.

    The methods are those of `omniq.storage.base`. They begin and commit nothing; each that
    writes is in the caller's transaction as a whole or, if it raises, not at all.
    """

    @property
    def capabilities(self) -> Capabilities: ...
    def describe(self) -> str: ...
    def tables_version(self) -> int: ...
    def apply(self, units: Sequence[Unit]) -> Receipt: ...
    def claim(self, claim: Claim) -> Batch: ...
    def extend(self, owner: str, lease: Ms, held: Sequence[HeldTask]) -> Held: ...
    def sweep(self, limit: int = 1000) -> int: ...
    def get_tasks(self, ids: Sequence[str]) -> list[TaskRow]: ...
    def get_results(self, ids: Sequence[str]) -> list[ResultRow]: ...
    def find_tasks(
        self, filter: TaskFilter, *, limit: int = 100, cursor: str | None = None
    ) -> Page: ...
    def count_tasks(self) -> list[QueueCount]: ...
    def get_docs(
        self,
        kind: str,
        *,
        prefix: str = "",
        after: str = "",
        due_before: Ms | None = None,
        limit: int = 1000,
    ) -> list[Doc]: ...
    def read_events(
        self, filter: EventFilter, *, after: str | None = None, limit: int = 100
    ) -> EventPage: ...


class Asked(Protocol):
    """The queue a handle asks."""

    def result(self, id: str) -> TaskResult: ...
    def info(self, id: str) -> TaskInfo: ...
    def cancel(self, id: str, *, actor: str = "") -> bool: ...
    def retry(self, id: str, *, actor: str = "") -> bool: ...


class Handle(str, Generic[R_co]):
    """The id of a task enqueued in a transaction: a string that can be asked how it stands.

    It asks through the same connection, and is good for as long as that is open and in use by
    this thread; the string itself may be stored and sent anywhere.
    """

    __slots__ = ("_queue",)

    _queue: Asked

    def __new__(cls, id: str, queue: Asked) -> Self:
        handle = super().__new__(cls, id)
        handle._queue = queue
        return handle

    @property
    def id(self) -> str:
        """The id as a plain string."""
        return str.__str__(self)

    def status(self) -> ResultStatus:
        """How far it is now."""
        return self._queue.result(self.id).status

    def info(self) -> TaskInfo:
        """Everything that is known about it."""
        return self._queue.info(self.id)

    def cancel(self) -> bool:
        """Cancel it, or ask its worker to stop it; False: it had already ended."""
        return self._queue.cancel(self.id)

    def retry(self) -> bool:
        """Run it once more from the start; False: it has not ended, or runs again already."""
        return self._queue.retry(self.id)

    def __omniq_plain__(self) -> str:
        """As an argument of another task it is its id."""
        return str.__str__(self)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str.__str__(self),)


class Within:
    """A queue whose every call is part of the caller's transaction.

    What is enqueued is there for workers when the caller commits, and never was if the caller
    rolls back; until then this connection alone sees it. Nothing waits here: a result can come
    only after the commit, so ask a queue of your own for it.
    """

    def __init__(self, engine: Engine, place: Place) -> None:
        self.engine, self.place = engine, place

    # -- enqueue -------------------------------------------------------------------------

    @overload
    def enqueue(
        self,
        func: TaskFunction[..., Any, R],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> Handle[R]: ...
    @overload
    def enqueue(
        self,
        func: Callable[..., Coroutine[Any, Any, R]],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> Handle[R]: ...
    @overload
    def enqueue(
        self,
        func: Callable[..., R],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> Handle[R]: ...
    @overload
    def enqueue(
        self,
        func: Task | str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> Handle[Any]: ...
    def enqueue(
        self,
        func: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> Handle[Any]:
        """Add a task to the transaction; arguments and errors are those of `AsyncOmniQ.enqueue`.

        An error leaves the transaction as it was before the call.
        """
        return self._enqueue([self.engine.insert(task_from(func, args, kwargs, options))])[0]

    def enqueue_many(self, tasks: Iterable[Task]) -> list[Handle[Any]]:
        """Add many tasks; all are checked before the first is stored.

        One that is refused only then (its `unique` key is held, a parent is missing) does not
        take the others out of the transaction: the error's `stored` has their ids, None in the
        place of the refused.
        """
        return self._enqueue([self.engine.insert(checked(task)) for task in tasks])

    def _enqueue(self, inserts: list[Insert]) -> list[Handle[Any]]:
        # Names of queues are left every time: an earlier transaction may have been rolled back.
        names = [announcement(name) for name in dict.fromkeys(i.row.queue for i in inserts)]
        answers = self._apply([*names, *inserts])[len(names) :]
        return [Handle(id, self) for id in all_accepted(inserts, answers)]

    def _apply(self, units: Iterable[Unit]) -> list[Answer]:
        answers: list[Answer] = []
        for batch in batches(units):
            receipt = self.place.apply(batch)
            answers += [answer_of(receipt, n) for n in range(len(batch))]
        return answers

    # -- looking -------------------------------------------------------------------------

    def get_result(self, id: str) -> Any:
        """The value of a task that has ended; raises as `AsyncOmniQ.get_result` does.

        For one that has not, ResultTimeout at once: here it never would.
        """
        row = self._ended(id)
        return value_of(self.engine, row.id, Ended(row, self._result(row)))

    def results(self, ids: Iterable[str]) -> Iterator[TaskResult]:
        """Results of tasks that have ended; failures are told. ResultTimeout for others."""
        for id in dict.fromkeys([ids] if isinstance(ids, str) else ids):
            row = self._ended(id)
            yield self.engine.result(row, self._result(row))

    def result(self, id: str) -> TaskResult:
        """How a task stands now. Raises TaskNotFound."""
        row = self._row(id)
        return self.engine.result(row, self._result(row))

    def info(self, id: str) -> TaskInfo:
        """Everything about one task, opened as far as is safe. Raises TaskNotFound."""
        row = self._row(id)
        return self.engine.info(row, self._result(row))

    def find(
        self, filter: TaskFilter | None = None, *, limit: int = 50, cursor: str | None = None
    ) -> TaskList:
        """A page of tasks, newest first unless the filter says otherwise."""
        page = self.place.find_tasks(filter or TaskFilter(), limit=limit, cursor=cursor)
        return TaskList(page.rows, page.cursor)

    def counts(self) -> list[QueueCount]:
        """Tasks by queue and status."""
        return self.place.count_tasks()

    def events(
        self, filter: EventFilter | None = None, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        """A page of events; `after` is the cursor of the page before."""
        return self.place.read_events(filter or EventFilter(), after=after, limit=limit)

    def workers(self) -> list[WorkerCard]:
        """The workers that live, or have died a short while ago."""
        return workers_of(self.place.get_docs("worker"))

    def metrics(self, minutes: int = 60) -> list[MinuteMetric]:
        """What workers did in the last `minutes`: one entry per minute and worker, newest last."""
        after, found = metric_key(self.engine.clock.now(), minutes), list[MinuteMetric]()
        while docs := self.place.get_docs("metric", after=after):
            found += metrics_of(docs)
            after = docs[-1].key
        return found

    def describe(self) -> str:
        """Where tasks are kept, in words for people."""
        return self.place.describe()

    # -- acting --------------------------------------------------------------------------

    def cancel(self, id: str, *, actor: str = "") -> bool:
        """Cancel a task, also one that this transaction has enqueued; a running one is asked.

        False if it has already ended. `actor` is who asked, for the event log. Raises
        TaskNotFound.
        """
        return self._act(acts.cancel, id, actor)

    def retry(self, id: str, *, actor: str = "") -> bool:
        """Run an ended task once more from the start, or a scheduled one now.

        False if it waits or runs, or its unique key is held by another. Raises TaskNotFound.
        """
        return self._act(acts.retry, id, actor)

    def delete(self, id: str, *, actor: str = "") -> bool:
        """Forget an ended task and its result. False if it has not ended. Raises TaskNotFound."""
        return self._act(acts.delete, id, actor)

    def _act(self, do: acts.Do, id: str, actor: str) -> bool:
        self.place.apply([])  # its turn at writing comes before it reads: see ForeignConnection
        act = do(self._row(id), actor, self.engine.clock.now(), self.engine.rules)
        if act is None or self._apply([act.move])[0].applied not in act.done:
            return False
        if act.told.events:
            self._apply([act.told])
        return True

    def _row(self, id: str) -> TaskRow:
        rows = self.place.get_tasks([str.__str__(id)])
        if not rows:
            raise not_found(str.__str__(id))
        return rows[0]

    def _ended(self, id: str) -> TaskRow:
        row = self._row(id)
        if not row.status.final:
            raise ResultTimeout(
                f"task {row.id} has not ended, and cannot as long as this transaction is open: "
                "ask for its result behind the commit",
                task_id=row.id,
            )
        return row

    def _result(self, row: TaskRow) -> ResultRow | None:
        return that_count({row.id: row.epoch}, self.place.get_results([row.id])).get(row.id)


def engine_for(
    config: OmniQConfig,
    capabilities: Capabilities,
    *,
    client: str | None = None,
    clock: Clock = SYSTEM_CLOCK,
    around: Sequence[Around] = (),
) -> Engine:
    """The rules without an open queue, for any number of `Within` over places of one kind."""
    manager = manager_for(config, capabilities)
    return Engine(config, manager, client=client or uuid7(), clock=clock, around=around)
