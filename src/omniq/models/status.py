"""One vocabulary of states: rows, results and events."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Status(IntEnum):
    """Where a task's row stands. Numbers have gaps; anything from 60 on is final."""

    WAITING = 10
    """Parents it depends on have not ended."""
    HELD = 20
    """In line behind a limit."""
    SCHEDULED = 30
    """Its `run_at` lies ahead (a delay, or a retry)."""
    READY = 40
    RUNNING = 50
    SUCCEEDED = 60
    FAILED = 70
    """Kept for replay: a dead letter."""
    CANCELLED = 80
    EXPIRED = 90
    """Its TTL passed before any worker started it."""

    @property
    def final(self) -> bool:
        return self >= FINAL

    @property
    def result(self) -> ResultStatus:
        """What a caller who asks for the result is told."""
        return _RESULT[self]


FINAL = 60
BEFORE_RUN = (Status.WAITING, Status.HELD, Status.SCHEDULED, Status.READY)


class ResultStatus(StrEnum):
    """How a result stands, in the words of whoever waits for it."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    ERROR = "error"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


_RESULT = {
    Status.WAITING: ResultStatus.PENDING,
    Status.HELD: ResultStatus.PENDING,
    Status.SCHEDULED: ResultStatus.PENDING,
    Status.READY: ResultStatus.PENDING,
    Status.RUNNING: ResultStatus.RUNNING,
    Status.SUCCEEDED: ResultStatus.SUCCESS,
    Status.FAILED: ResultStatus.ERROR,
    Status.CANCELLED: ResultStatus.CANCELLED,
    Status.EXPIRED: ResultStatus.EXPIRED,
}


class EventType(StrEnum):
    """What happened. Task events first; schedule, worker and queue events carry a subject."""

    ENQUEUED = "enqueued"
    SCHEDULED = "scheduled"
    EXECUTING = "executing"
    COMPLETE = "complete"
    ERROR = "error"
    RETRY = "retry"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DEAD = "dead"
    UNKNOWN_FUNCTION = "unknown_function"
    WORKER_STARTED = "worker_started"
    WORKER_STOPPED = "worker_stopped"
    LEASE_LOST = "lease_lost"
    ACTION = "action"
    """Somebody did something by hand: replay, cancel, pause. Who and what is in `data`."""
