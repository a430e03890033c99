"""The rules of a task's life: pure functions from what happened to one Move.

No I/O and no clock of their own. Retry delays grow exponentially with jitter; rule classes
are matched by dotted name against all bases of the exception.
"""

from __future__ import annotations

import random

import msgspec
from msgspec import Struct

from omniq.events.gate import EventGate
from omniq.models.event import TaskEvent
from omniq.models.outcome import (
    Cancelled,
    Failed,
    Outcome,
    Released,
    Snoozed,
    Succeeded,
    UnknownFunction,
)
from omniq.models.result import AttemptError
from omniq.models.row import Flag, Ms, TaskRow
from omniq.models.status import BEFORE_RUN, EventType, Status
from omniq.models.task import RetryPolicy, TaskBody
from omniq.models.units import Fence, Move, Patch, PutEvents, Value

KEPT_ERRORS = 10
UNKNOWN_DELAYS = (1, 5, 15, 60, 300)
"""Seconds before a task that a worker did not know is offered again."""

_RUNNING = (Status.RUNNING,)
_SUCCEEDED = Status.SUCCEEDED
_COMPLETE = EventType.COMPLETE
_ERRORS = msgspec.msgpack.Decoder(list[AttemptError])
_encode = msgspec.msgpack.encode


class Rules(Struct, frozen=True, kw_only=True):
    """What the rules need to know of the configuration. Lengths are milliseconds."""

    events: EventGate
    retry: RetryPolicy = RetryPolicy()
    history: Ms = 86_400_000
    dead: Ms = 14 * 86_400_000
    max_losses: int = 3


def settle(row: TaskRow, body: TaskBody, outcome: Outcome, now: Ms, rules: Rules) -> Move:
    """The Move that follows from one run of a claimed row."""
    move = _settle(row, body, outcome, now, rules)
    if rules.events.executing and row.started_at is not None and _begun(outcome):
        # A start has no commit of its own, so its event rides with the end.
        started = _event(row, EventType.EXECUTING, row.started_at, rules, n=-1)
        return msgspec.structs.replace(move, events=(started, *move.events))
    return move


def _begun(outcome: Outcome) -> bool:
    return not isinstance(outcome, Released) or outcome.started


def _settle(row: TaskRow, body: TaskBody, outcome: Outcome, now: Ms, rules: Rules) -> Move:
    if isinstance(outcome, Succeeded):
        return _succeed(row, body, outcome, now, rules)
    if isinstance(outcome, Failed):
        return _fail(row, body, outcome, now, rules)
    if isinstance(outcome, Cancelled):
        return cancelled(row, now, rules)
    if isinstance(outcome, Snoozed):
        return _give_back(row, now, rules, delay=round(outcome.delay * 1000))
    if isinstance(outcome, UnknownFunction):
        known = min(max(row.epoch, 1), len(UNKNOWN_DELAYS)) - 1
        event = _event(row, EventType.UNKNOWN_FUNCTION, now, rules, reason=outcome.reason)
        delay = UNKNOWN_DELAYS[known] * 1000
        return _give_back(row, now, rules, delay=delay, event=event, started=False)
    assert isinstance(outcome, Released)
    return _give_back(row, now, rules, delay=0, started=outcome.started)


def settle_chore(row: TaskRow, body: TaskBody, now: Ms, rules: Rules) -> Move:
    """The Move for a row that was handed out because nobody else will end it."""
    if row.flags & Flag.EXPIRED:
        return Move(
            id=row.id,
            expect=_RUNNING,
            fence=_fence(row),
            to=Status.EXPIRED,
            patch={"finished_at": now, "keep_until": now + rules.history},
            events=rules.events.pick(_event(row, EventType.EXPIRED, now, rules)),
        )
    if row.flags & Flag.STRANDED:
        error = AttemptError(
            type="omniq.ParentFailed",
            message="a task it depends on did not succeed",
            attempt=row.attempt,
            at=now,
        )
        return bury(row, error, now, rules)
    if row.cancel:
        return cancelled(row, now, rules)
    if row.losses > rules.max_losses:
        error = AttemptError(
            type="omniq.WorkerLost",
            message=f"its worker died {row.losses} times while it ran "
            f"(limit: {rules.max_losses})",
            attempt=row.attempt,
            at=now,
        )
        return bury(row, error, now, rules)
    event = _event(row, EventType.LEASE_LOST, now, rules, losses=row.losses, owner=row.owner)
    return _give_back(row, now, rules, delay=0, event=event)


def cancel(
    id: str, now: Ms, rules: Rules, *, queue: str = "", name: str = "", epoch: int = 0
) -> Move:
    """Cancel in any state: before a run at once, a running one is asked to stop."""
    event = TaskEvent(
        task=id,
        epoch=epoch,  # as far as it is known to whoever asks
        n=now % 1_000_000_000,  # a resent unit has the same time
        at=now,
        type=EventType.CANCELLED,
        queue=queue,
        name=name,
        keep_until=now + rules.events.retention,
    )
    return Move(
        id=id,
        expect=(*BEFORE_RUN, Status.RUNNING),
        to=Status.CANCELLED,
        ask=True,
        patch={"finished_at": now, "keep_until": now + rules.history},
        events=rules.events.pick(event),
    )


def replay(row: TaskRow, now: Ms) -> Move:
    """Run an ended task once more from the start, or a scheduled one now."""
    if not row.status.final:
        return Move(id=row.id, expect=(row.status,), to=Status.READY, patch={"run_at": now})
    return Move(
        id=row.id,
        expect=(row.status,),
        to=Status.READY,
        patch={
            "run_at": now,
            "attempt": 0,
            "losses": 0,
            "fault": None,
            "progress": None,
            "started_at": None,
            "finished_at": None,
            "keep_until": None,
            "expires_at": None,
        },
    )


def action(row: TaskRow, what: str, actor: str, now: Ms, rules: Rules) -> PutEvents:
    """The event that somebody did something to a task by hand."""
    event = TaskEvent(
        task=row.id,
        epoch=row.epoch,
        # Never the number of what was done in the same millisecond, which would hide this one.
        n=1_000_000_000 + now % 1_000_000_000,
        at=now,
        type=EventType.ACTION,
        queue=row.queue,
        name=row.name,
        data={"action": what, "actor": actor},
        keep_until=now + rules.events.retention,
    )
    return PutEvents(rules.events.pick(event))


def retry_delay(policy: RetryPolicy, attempt: int) -> float:
    """Seconds before the run that follows attempt number `attempt` (from 1)."""
    grown = policy.delay * policy.factor ** min(attempt - 1, 100)  # further would overflow
    delay = min(grown, policy.max_delay)
    return delay * (1 + policy.jitter * random.random())


def errors_of(row: TaskRow) -> list[AttemptError]:
    """The failed attempts a row remembers, the newest last."""
    return _ERRORS.decode(row.error) if row.error else []


def _succeed(row: TaskRow, body: TaskBody, outcome: Succeeded, now: Ms, rules: Rules) -> Move:
    keep = now + rules.history
    until = None
    if body.result_ttl is not None:
        until = now + int(body.result_ttl * 1000)
        keep = max(until, keep)
    return Move(
        id=row.id,
        expect=_RUNNING,
        fence=Fence(row.epoch, row.claim or ""),
        to=_SUCCEEDED,
        patch={"finished_at": now, "keep_until": keep},
        result=Value(outcome.value, until),
        events=(_complete(row, now, rules),) if rules.events.complete else (),
        wake=row.reply,
    )


def _complete(row: TaskRow, now: Ms, rules: Rules) -> TaskEvent:
    return TaskEvent(
        task=row.id,
        epoch=row.epoch,
        n=1,
        at=now,
        type=_COMPLETE,
        queue=row.queue,
        name=row.name,
        worker=row.owner or "",
        keep_until=now + rules.events.retention,
    )


def _fail(row: TaskRow, body: TaskBody, outcome: Failed, now: Ms, rules: Rules) -> Move:
    policy = body.retry or rules.retry
    error = outcome.error
    if outcome.again is None:
        again = row.attempt <= policy.retries and _retryable(policy, error)
    else:
        again = outcome.again
    if not again:
        return bury(row, error, now, rules)
    delay = retry_delay(policy, row.attempt) if outcome.delay is None else outcome.delay
    run_at = now + round(delay * 1000)
    return Move(
        id=row.id,
        expect=_RUNNING,
        fence=_fence(row),
        to=Status.READY,
        patch={
            "run_at": run_at,
            "expires_at": None,
            "fault": error.type,
            "error": _remember(row, error, now),
        },
        events=rules.events.pick(
            _event(row, EventType.ERROR, now, rules, error=error.type, message=error.message),
            _event(row, EventType.RETRY, now, rules, n=1, run_at=run_at, delay=delay),
        ),
    )


def _retryable(policy: RetryPolicy, error: AttemptError) -> bool:
    bases = set(error.bases) or {error.type}
    if bases.intersection(policy.never):
        return False
    return not policy.only or bool(bases.intersection(policy.only))


def bury(row: TaskRow, error: AttemptError, now: Ms, rules: Rules) -> Move:
    """End a claimed row as failed for good, whatever its retry rules say."""
    return Move(
        id=row.id,
        expect=_RUNNING,
        fence=_fence(row),
        to=Status.FAILED,
        patch={
            "finished_at": now,
            "keep_until": now + rules.dead,
            "fault": error.type,
            "error": _remember(row, error, now),
        },
        events=rules.events.pick(
            _event(row, EventType.ERROR, now, rules, error=error.type, message=error.message),
            _event(row, EventType.DEAD, now, rules, n=1, attempts=row.attempt),
        ),
    )


def cancelled(row: TaskRow, now: Ms, rules: Rules) -> Move:
    """End a claimed row as cancelled."""
    return Move(
        id=row.id,
        expect=_RUNNING,
        fence=_fence(row),
        to=Status.CANCELLED,
        patch={"finished_at": now, "keep_until": now + rules.history},
        events=rules.events.pick(_event(row, EventType.CANCELLED, now, rules)),
    )


def _give_back(
    row: TaskRow,
    now: Ms,
    rules: Rules,
    *,
    delay: Ms,
    event: TaskEvent | None = None,
    started: bool = True,
) -> Move:
    """Back in line. The attempt does not count, the epoch does.

    A task that was `started` in time does not expire for what stopped it.
    """
    patch: Patch = {
        "run_at": now + delay if delay else min(row.run_at, now),
        "attempt": max(row.attempt - 1, 0),
    }
    if started and row.expires_at is not None:
        patch["expires_at"] = None
    return Move(
        id=row.id,
        expect=_RUNNING,
        fence=_fence(row),
        to=Status.READY,
        patch=patch,
        events=rules.events.pick(event) if event else (),
    )


def _remember(row: TaskRow, error: AttemptError, now: Ms) -> bytes:
    told = msgspec.structs.replace(
        error, at=now, started_at=row.started_at or 0, worker=row.owner or ""
    )
    return _encode([*errors_of(row)[1 - KEPT_ERRORS :], told])


def _fence(row: TaskRow) -> Fence:
    return Fence(row.epoch, row.claim or "")


def _event(
    row: TaskRow, type: EventType, now: Ms, rules: Rules, *, n: int = 0, **data: object
) -> TaskEvent:
    return TaskEvent(
        task=row.id,
        epoch=row.epoch,
        n=n + 1,
        at=now,
        type=type,
        queue=row.queue,
        name=row.name,
        worker=row.owner or "",
        data={"attempt": row.attempt, **data},
        keep_until=now + rules.events.retention,
    )
