"""Small builders and questions, so that a test reads as the sentence it checks."""

from __future__ import annotations

from itertools import count
from typing import Any

from omniq.models import (
    Applied,
    Dep,
    EventType,
    Fence,
    Insert,
    Move,
    Patch,
    ResultRow,
    Status,
    TaskEvent,
    TaskRow,
    Unit,
    Value,
)
from omniq.models.filters import Claim, HeldTask, Slot, TaskFilter
from omniq.models.row import Ms
from omniq.models.units import Receipt
from omniq.storage.base import AsyncStorage

START: Ms = 1_800_000_000_000
"""Where a ManualClock begins."""
SECOND: Ms = 1_000
HOUR: Ms = 3_600_000
LEASE: Ms = 30_000

APPLIED, ALREADY = Applied.APPLIED, Applied.ALREADY
REFUSED, CANCEL_ASKED = Applied.REFUSED, Applied.CANCEL_ASKED

UNFINISHED = (Status.WAITING, Status.HELD, Status.SCHEDULED, Status.READY, Status.RUNNING)

_number = count(1)


# ---- what is stored


def task_id(at: Ms = START) -> str:
    """A task id of this time; later ones of the same time are larger."""
    head = f"{at:012x}"
    return f"{head[:8]}-{head[8:]}-7000-8000-{next(_number):012x}"


def row(*, at: Ms = START, **fields: Any) -> TaskRow:
    """A task created, and due, at `at`."""
    given: dict[str, Any] = {
        "id": task_id(at),
        "queue": "q",
        "lane": "async",
        "name": "app:work",
        "status": Status.READY,
        "created_at": at,
        "run_at": at,
        "body": b"body",
    }
    return TaskRow(**given | fields)


def insert(*parents: str | Dep, events: tuple[TaskEvent, ...] = (), **fields: Any) -> Insert:
    """A new task that waits for `parents`."""
    deps = tuple(p if isinstance(p, Dep) else Dep(p) for p in parents)
    return Insert(row(**fields), deps, events)


def event(task: str, n: int = 0, *, epoch: int = 0, at: Ms = START, **fields: Any) -> TaskEvent:
    """One event of a task or subject."""
    given: dict[str, Any] = {"type": EventType.ENQUEUED, "queue": "q", "name": "app:work"}
    return TaskEvent(task=task, epoch=epoch, n=n, at=at, **given | fields)


# ---- what a worker says


def claim(
    owner: str = "w1",
    *,
    queues: tuple[str, ...] = ("q",),
    lanes: tuple[str, ...] = ("async",),
    limit: int = 10,
    lease: Ms = LEASE,
    chores: int = 0,
    request: str | None = None,
) -> Claim:
    """Room for `limit` tasks in each lane named, from any of the queues."""
    slots = tuple(Slot(queue, lane, limit) for queue in queues for lane in lanes)
    asked = request or f"request-{next(_number)}"
    return Claim(owner=owner, request=asked, slots=slots, limit=limit, lease=lease, chores=chores)


def fence(task: TaskRow) -> Fence:
    """The claim under which a running task is held."""
    return Fence(task.epoch, task.claim or "")


def held(task: TaskRow, progress: bytes | None = None) -> HeldTask:
    """A running task as its worker tells of it in a heartbeat."""
    return HeldTask(task.id, task.epoch, task.claim or "", progress)


def settle(task: TaskRow, to: Status | None, patch: Patch | None = None, **riders: Any) -> Move:
    """What a worker writes of a task it holds."""
    riders = {"fence": fence(task)} | riders
    return Move(id=task.id, expect=(Status.RUNNING,), to=to, patch=patch or {}, **riders)


def finish(
    task: TaskRow,
    value: bytes = b"value",
    *,
    until: Ms | None = None,
    patch: Patch | None = None,
    **riders: Any,
) -> Move:
    """It succeeded."""
    return settle(task, Status.SUCCEEDED, patch, result=Value(value, until), **riders)


def fail(task: TaskRow, patch: Patch | None = None, **riders: Any) -> Move:
    """It failed for good."""
    return settle(task, Status.FAILED, patch, **riders)


def retry(task: TaskRow, run_at: Ms, **riders: Any) -> Move:
    """It failed and is tried again at `run_at`."""
    return settle(task, Status.READY, {"run_at": run_at}, **riders)


def snooze(task: TaskRow, run_at: Ms) -> Move:
    """It goes on later, and this attempt does not count."""
    return settle(task, Status.READY, {"run_at": run_at, "attempt": task.attempt - 1})


# ---- what anybody says


def change(id: str, patch: Patch | None = None, *, to: Status | None = None, **rest: Any) -> Move:
    """A change of a task that nobody runs."""
    rest = {"expect": UNFINISHED} | rest
    return Move(id=id, to=to, patch=patch or {}, **rest)


def cancel(id: str, **riders: Any) -> Move:
    """Cancel it, or ask its worker to."""
    return Move(id=id, expect=UNFINISHED, to=Status.CANCELLED, ask=True, **riders)


def replay(id: str, patch: Patch | None = None) -> Move:
    """Run an ended task again."""
    ended = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED)
    return Move(id=id, expect=ended, to=Status.READY, patch=patch or {"attempt": 0})


# ---- what the tests ask


async def apply(storage: AsyncStorage, *units: Unit) -> Receipt:
    """Apply units, all of which are meant to go through."""
    receipt = await storage.apply(units)
    assert receipt.outcome == [APPLIED] * len(units), receipt
    return receipt


async def outcome(storage: AsyncStorage, unit: Unit) -> Applied:
    """What becomes of one unit."""
    receipt = await storage.apply([unit])
    [answer] = receipt.outcome
    return answer


async def add(storage: AsyncStorage, *parents: str | Dep, **fields: Any) -> TaskRow:
    """A task that is in the store, as the store keeps it."""
    unit = insert(*parents, **fields)
    await apply(storage, unit)
    return await get(storage, unit.row.id)


async def add_many(storage: AsyncStorage, units: list[Insert]) -> None:
    """Many inserts, in batches as a client would send them."""
    for start in range(0, len(units), 500):
        await apply(storage, *units[start : start + 500])


async def take(storage: AsyncStorage, owner: str = "w1", **asked: Any) -> list[TaskRow]:
    """Claim, and give the rows."""
    return (await storage.claim(claim(owner, **asked))).tasks


async def chores(storage: AsyncStorage, owner: str = "janitor", limit: int = 10) -> list[TaskRow]:
    """Ask for chores and no work."""
    batch = await storage.claim(claim(owner, queues=(), limit=0, chores=limit))
    assert batch.tasks == []
    return batch.chores


async def add_running(storage: AsyncStorage, owner: str = "w1", **fields: Any) -> TaskRow:
    """A task in a queue of its own that `owner` runs."""
    name = f"only-{next(_number)}"
    await add(storage, **{"queue": name} | fields)
    [task] = await take(storage, owner, queues=(fields.get("queue", name),), limit=1)
    return task


async def get(storage: AsyncStorage, id: str) -> TaskRow:
    """The row, which must be there."""
    [found] = await storage.get_tasks([id])
    return found


async def status(storage: AsyncStorage, id: str) -> Status:
    return (await get(storage, id)).status


async def result(storage: AsyncStorage, id: str) -> ResultRow | None:
    """The result, if there is one."""
    found = await storage.get_results([id])
    return found[0] if found else None


async def counts(storage: AsyncStorage) -> dict[tuple[str, Status], int]:
    """Rows by queue and status, without the zeros."""
    return {(c.queue, c.status): c.count for c in await storage.count_tasks() if c.count}


async def find_ids(
    storage: AsyncStorage, filter: TaskFilter | None = None, *, page: int = 100
) -> list[str]:
    """Every id a filter finds, followed through all pages."""
    ids: list[str] = []
    cursor: str | None = None
    while True:
        found = await storage.find_tasks(filter or TaskFilter(), limit=page, cursor=cursor)
        ids += [task.id for task in found.rows]
        cursor = found.cursor
        if cursor is None:
            return ids


def ids(rows: list[TaskRow]) -> list[str]:
    return [task.id for task in rows]
