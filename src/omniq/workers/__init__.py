"""Workers: lanes that run tasks, and the pool that feeds them."""

from omniq.workers.context import TaskContext, current
from omniq.workers.quota import Quota
from omniq.workers.worker import AsyncWorker, ThreadWorker, Worker, WorkerPool

__all__ = [
    "AsyncWorker",
    "Quota",
    "TaskContext",
    "ThreadWorker",
    "Worker",
    "WorkerPool",
    "current",
]
