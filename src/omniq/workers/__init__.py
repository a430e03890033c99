"""Workers: lanes that run tasks, and the pool that feeds them."""

from omniq.workers.context import TaskContext, current
from omniq.workers.worker import AsyncWorker, ThreadWorker, Worker, WorkerPool

__all__ = ["AsyncWorker", "TaskContext", "ThreadWorker", "Worker", "WorkerPool", "current"]
