"""Every public name that was promised can be imported from the place it was promised for.

What a later step brings is listed as pending. A pending name that exists already fails here,
so the list can only shrink; at the end it is empty.
"""

from __future__ import annotations

from importlib import import_module

import pytest

PLACES = ("File", "Memory", "SQLite", "Postgres", "Redis", "NATS")

PROMISED: dict[str, tuple[str, ...]] = {
    "omniq": (
        *("AsyncTaskQueue", "TaskQueue", "SyncTaskQueue", "AsyncOmniQ", "OmniQ"),
        *("Task", "Schedule", "TaskResult", "TaskEvent", "TaskHandle", "AsyncTaskHandle", "task"),
        *("Status", "ResultStatus", "EventType", "OmniQError", "OmniQConfig", "StorageConfig"),
    ),
    "omniq.models": ("Task", "Schedule", "TaskResult", "TaskEvent"),
    "omniq.storage": (
        *("BaseTaskQueue", "BaseResultStorage", "BaseEventStorage", "BaseStorage"),
        *(f"{place}Storage" for place in PLACES),
        *(f"Async{place}Storage" for place in PLACES),
    ),
    "omniq.backend": ("Backend", *(f"{place}Backend" for place in PLACES)),
    "omniq.serialization": (
        *("SerializationDetector", "MsgspecSerializer", "DillSerializer"),
        "SerializationManager",
    ),
    "omniq.queue": (
        *("Scheduler", "DependencyResolver", "TaskDependencyGraph", "RetryManager"),
        "CallbackManager",
    ),
    "omniq.workers": (
        *("AsyncWorker", "ThreadWorker", "ProcessWorker", "GeventWorker", "WorkerPool"),
    ),
    "omniq.events": (
        *("AsyncEventLogger", "EventLogger", "AsyncEventProcessor", "EventProcessor"),
    ),
    "omniq.config": ("ConfigProvider", "EnvConfig", "LoggingConfig"),
    "omniq.dashboard": ("DashboardApp", "TaskViews", "ScheduleViews", "MetricsViews"),
    "omniq.contrib.litestar": ("OmniQPlugin",),
    "omniq.contrib.fastapi": ("get_queue", "QueueDep"),
    "omniq.contrib.django": ("OmniQConfig", "OmniQBackend"),
}

# Name -> the issue that brings it.
PENDING: dict[str, str] = {
    "omniq.Schedule": "later",
    "omniq.models.Schedule": "later",
    "omniq.queue.Scheduler": "later",
    "omniq.queue.DependencyResolver": "later",
    "omniq.queue.TaskDependencyGraph": "later",
    "omniq.queue.RetryManager": "later",
    "omniq.queue.CallbackManager": "later",
    "omniq.workers.ProcessWorker": "later",
    "omniq.workers.GeventWorker": "later",
    "omniq.events.AsyncEventLogger": "later",
    "omniq.events.EventLogger": "later",
    "omniq.events.AsyncEventProcessor": "later",
    "omniq.events.EventProcessor": "later",
    "omniq.dashboard.ScheduleViews": "later",
}

ALL = [f"{module}.{name}" for module, names in PROMISED.items() for name in names]


def exists(full: str) -> bool:
    module, _, name = full.rpartition(".")
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        return False
    return hasattr(found, name)


@pytest.mark.parametrize("full", [full for full in ALL if full not in PENDING])
def test_a_promised_name_is_there(full: str) -> None:
    assert exists(full)


@pytest.mark.parametrize("full", PENDING)
def test_a_pending_name_is_promised_and_not_there_yet(full: str) -> None:
    assert full in ALL, "not promised, so it cannot be pending"
    assert not exists(full), "it is there: take it off the list of pending names"


def test_the_second_name_of_the_blocking_queue() -> None:
    import omniq

    assert omniq.SyncTaskQueue is omniq.TaskQueue
