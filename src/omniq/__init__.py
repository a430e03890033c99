"""OmniQ: a task queue that starts inside your web app and grows with it.

Everything here is imported when it is first asked for, so `import omniq` itself is light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniq._lazy import lazy

__version__ = "0.1.0"

if TYPE_CHECKING:
    from omniq.core import AsyncOmniQ as AsyncOmniQ
    from omniq.core import AsyncTaskQueue as AsyncTaskQueue
    from omniq.decorator import TaskFunction as TaskFunction
    from omniq.decorator import task as task
    from omniq.errors import ConfigError as ConfigError
    from omniq.errors import CorruptPayload as CorruptPayload
    from omniq.errors import DuplicateTask as DuplicateTask
    from omniq.errors import FunctionNotFound as FunctionNotFound
    from omniq.errors import InvalidName as InvalidName
    from omniq.errors import InvalidTask as InvalidTask
    from omniq.errors import LeaseLost as LeaseLost
    from omniq.errors import NotSerializable as NotSerializable
    from omniq.errors import NotStarted as NotStarted
    from omniq.errors import OmniQError as OmniQError
    from omniq.errors import PayloadTooLarge as PayloadTooLarge
    from omniq.errors import ResultExpired as ResultExpired
    from omniq.errors import ResultTimeout as ResultTimeout
    from omniq.errors import Retry as Retry
    from omniq.errors import SchemaError as SchemaError
    from omniq.errors import SerializationError as SerializationError
    from omniq.errors import Snooze as Snooze
    from omniq.errors import StorageClosed as StorageClosed
    from omniq.errors import StorageError as StorageError
    from omniq.errors import StorageUnavailable as StorageUnavailable
    from omniq.errors import SyncInAsync as SyncInAsync
    from omniq.errors import TaskCancelled as TaskCancelled
    from omniq.errors import TaskError as TaskError
    from omniq.errors import TaskExpired as TaskExpired
    from omniq.errors import TaskFailed as TaskFailed
    from omniq.errors import TaskNotFound as TaskNotFound
    from omniq.errors import TaskSignal as TaskSignal
    from omniq.errors import UnknownOption as UnknownOption
    from omniq.errors import UntrustedPayload as UntrustedPayload
    from omniq.handle import AsyncTaskHandle as AsyncTaskHandle
    from omniq.models.config import DashboardConfig as DashboardConfig
    from omniq.models.config import EventConfig as EventConfig
    from omniq.models.config import LogConfig as LogConfig
    from omniq.models.config import OmniQConfig as OmniQConfig
    from omniq.models.config import RetentionConfig as RetentionConfig
    from omniq.models.config import StorageConfig as StorageConfig
    from omniq.models.config import TaskDefaults as TaskDefaults
    from omniq.models.config import WorkerConfig as WorkerConfig
    from omniq.models.event import TaskEvent as TaskEvent
    from omniq.models.filters import EventFilter as EventFilter
    from omniq.models.filters import TaskFilter as TaskFilter
    from omniq.models.info import TaskInfo as TaskInfo
    from omniq.models.result import TaskResult as TaskResult
    from omniq.models.row import Dep as Dep
    from omniq.models.row import Unique as Unique
    from omniq.models.status import EventType as EventType
    from omniq.models.status import ResultStatus as ResultStatus
    from omniq.models.status import Status as Status
    from omniq.models.task import RetryPolicy as RetryPolicy
    from omniq.models.task import Task as Task
    from omniq.sync import OmniQ as OmniQ
    from omniq.sync import SyncTaskQueue as SyncTaskQueue
    from omniq.sync import TaskHandle as TaskHandle
    from omniq.sync import TaskQueue as TaskQueue
    from omniq.workers.context import TaskContext as TaskContext
    from omniq.workers.context import current as current
else:
    # A test holds this list and the one above, which is for type checkers, together.
    __getattr__, __dir__, __all__ = lazy(
        __name__,
        {
            "AsyncOmniQ": "omniq.core",
            "AsyncTaskHandle": "omniq.handle",
            "AsyncTaskQueue": "omniq.core",
            "ConfigError": "omniq.errors",
            "CorruptPayload": "omniq.errors",
            "DashboardConfig": "omniq.models.config",
            "Dep": "omniq.models.row",
            "DuplicateTask": "omniq.errors",
            "EventConfig": "omniq.models.config",
            "EventFilter": "omniq.models.filters",
            "EventType": "omniq.models.status",
            "FunctionNotFound": "omniq.errors",
            "InvalidName": "omniq.errors",
            "InvalidTask": "omniq.errors",
            "LeaseLost": "omniq.errors",
            "LogConfig": "omniq.models.config",
            "NotSerializable": "omniq.errors",
            "NotStarted": "omniq.errors",
            "OmniQ": "omniq.sync",
            "OmniQConfig": "omniq.models.config",
            "OmniQError": "omniq.errors",
            "PayloadTooLarge": "omniq.errors",
            "ResultExpired": "omniq.errors",
            "ResultStatus": "omniq.models.status",
            "ResultTimeout": "omniq.errors",
            "RetentionConfig": "omniq.models.config",
            "Retry": "omniq.errors",
            "RetryPolicy": "omniq.models.task",
            "SchemaError": "omniq.errors",
            "SerializationError": "omniq.errors",
            "Snooze": "omniq.errors",
            "Status": "omniq.models.status",
            "StorageClosed": "omniq.errors",
            "StorageConfig": "omniq.models.config",
            "StorageError": "omniq.errors",
            "StorageUnavailable": "omniq.errors",
            "SyncInAsync": "omniq.errors",
            "SyncTaskQueue": "omniq.sync",
            "Task": "omniq.models.task",
            "TaskCancelled": "omniq.errors",
            "TaskContext": "omniq.workers.context",
            "TaskDefaults": "omniq.models.config",
            "TaskError": "omniq.errors",
            "TaskEvent": "omniq.models.event",
            "TaskExpired": "omniq.errors",
            "TaskFailed": "omniq.errors",
            "TaskFilter": "omniq.models.filters",
            "TaskFunction": "omniq.decorator",
            "TaskHandle": "omniq.sync",
            "TaskInfo": "omniq.models.info",
            "TaskNotFound": "omniq.errors",
            "TaskQueue": "omniq.sync",
            "TaskResult": "omniq.models.result",
            "TaskSignal": "omniq.errors",
            "Unique": "omniq.models.row",
            "UnknownOption": "omniq.errors",
            "UntrustedPayload": "omniq.errors",
            "WorkerConfig": "omniq.models.config",
            "current": "omniq.workers.context",
            "task": "omniq.decorator",
        },
    )
