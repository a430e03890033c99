"""What happened, in order: events of tasks, schedules and workers."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from omniq.models.row import Ms
from omniq.models.status import EventType


class TaskEvent(Struct, frozen=True, kw_only=True, gc=False):
    """One event. (task, epoch, n) is its identity: sent twice, it is kept once.

    `task` is a task's id, or a subject such as `worker:<id>` for what is not about a task.
    `data` holds plain values (what JSON could say).
    """

    task: str
    epoch: int = 0
    n: int = 0
    at: Ms
    type: EventType
    queue: str = ""
    name: str = ""
    worker: str = ""
    data: dict[str, Any] = {}
    keep_until: Ms | None = None
