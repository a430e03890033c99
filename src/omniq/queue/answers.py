"""What callers are told: values, or errors that say what became of a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from omniq.errors import (
    DuplicateTask,
    InvalidTask,
    ResultExpired,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    TaskNotFound,
)
from omniq.models.row import Doc, Ms
from omniq.models.status import Status
from omniq.models.units import Applied, Insert
from omniq.models.worker import MinuteMetric, WorkerCard
from omniq.queue import policy
from omniq.queue.batcher import Answer
from omniq.queue.engine import Engine
from omniq.queue.waiting import Ended

_CARD = msgspec.msgpack.Decoder(WorkerCard)
_METRIC = msgspec.msgpack.Decoder(MinuteMetric)


def value_of(engine: Engine, id: str, ended: Ended | None) -> Any:
    """The value of an ended task, or the error that tells how it ended."""
    if ended is None:
        raise not_found(id)
    row, result = ended
    if row.status is Status.CANCELLED:
        raise TaskCancelled(f"task {id} was cancelled", task_id=id)
    if row.status is Status.EXPIRED:
        raise TaskExpired(f"task {id} expired before any worker started it", task_id=id)
    if row.status is Status.FAILED:
        last = policy.errors_of(row)[-1]
        raise TaskFailed(
            id,
            type=last.type,
            remote_message=last.message,
            remote_traceback=last.traceback,
            attempts=max(row.attempt, 1),
        )
    if result is None:
        raise ResultExpired(f"task {id} succeeded, but its result is past its TTL", task_id=id)
    return engine.value(row, result)


def not_found(id: str) -> TaskNotFound:
    """Nobody has heard of this id."""
    return TaskNotFound(
        f"no task has the id {id!r}: it was never enqueued here, or its retention is over",
        task_id=id,
    )


def accepted(insert: Insert, answer: Answer) -> str:
    """The id of a task that was stored; else the error that says why not."""
    if answer.applied is Applied.REFUSED:
        raise refused(insert, answer)
    return insert.row.id


def all_accepted(inserts: Sequence[Insert], answers: Sequence[Answer]) -> list[str]:
    """The ids of tasks sent together; else the first error, which says which were stored."""
    if Applied.REFUSED not in [answer.applied for answer in answers]:
        return [insert.row.id for insert in inserts]
    pairs = list(zip(inserts, answers, strict=True))
    stored = [None if a.applied is Applied.REFUSED else i.row.id for i, a in pairs]
    error = refused(*pairs[stored.index(None)])
    error.stored = tuple(stored)
    if len(stored) > 1:
        number = len(stored) - stored.count(None)
        error.add_note(f"{number} of {len(stored)} tasks were stored: see error.stored")
    raise error


def workers_of(docs: Iterable[Doc]) -> list[WorkerCard]:
    """The cards of the workers, from docs of the kind `worker`."""
    return [_CARD.decode(doc.value) for doc in docs]


def metric_key(now: Ms, minutes: int) -> str:
    """Docs of the kind `metric` behind this key are of the last `minutes`."""
    start = now - minutes * 60_000
    return f"{start - start % 60_000:015d}"


def metrics_of(docs: Iterable[Doc]) -> list[MinuteMetric]:
    """What workers did, from docs of the kind `metric`."""
    return [_METRIC.decode(doc.value) for doc in docs]


def refused(insert: Insert, answer: Answer) -> DuplicateTask | InvalidTask:
    """Why a task was not stored."""
    unique = insert.row.unique
    if answer.holder is not None and unique is not None:
        return DuplicateTask(
            f"unique key {unique.key!r} is held by task {answer.holder}, which has not ended: "
            "wait for it, cancel it, or leave unique= out",
            key=unique.key,
            holder=answer.holder,
        )
    return InvalidTask(
        f"depends_on: no task has the id {', '.join(answer.missing)}: enqueue parents first, "
        "or say what a missing one counts as with Dep(id, missing='done')"
    )
