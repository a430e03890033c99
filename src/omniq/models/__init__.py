"""What things are: frozen structs, no behaviour beyond their own fields."""

from omniq.models.config import OmniQConfig
from omniq.models.event import TaskEvent
from omniq.models.result import AttemptError, TaskResult
from omniq.models.row import Dep, Doc, Flag, ResultRow, TaskRow, Unique
from omniq.models.status import BEFORE_RUN, FINAL, EventType, ResultStatus, Status
from omniq.models.task import RetryPolicy, Task, TaskBody, WorkerKind
from omniq.models.units import (
    Applied,
    Fence,
    Insert,
    Move,
    Patch,
    PutDoc,
    PutEvents,
    PutResult,
    Receipt,
    Unit,
    Value,
)

__all__ = [
    "BEFORE_RUN",
    "FINAL",
    "Applied",
    "AttemptError",
    "Dep",
    "Doc",
    "EventType",
    "Fence",
    "Flag",
    "Insert",
    "Move",
    "OmniQConfig",
    "Patch",
    "PutDoc",
    "PutEvents",
    "PutResult",
    "Receipt",
    "ResultRow",
    "ResultStatus",
    "RetryPolicy",
    "Status",
    "Task",
    "TaskBody",
    "TaskEvent",
    "TaskResult",
    "TaskRow",
    "Unique",
    "Unit",
    "Value",
    "WorkerKind",
]
