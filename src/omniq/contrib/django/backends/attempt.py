"""One attempt of a Django task in a worker, with what the framework promises around it.

The signals are sent in the thread or event loop the task runs in, `task_finished` only for the
attempt that ends the task; failures that are tried again are logged. All go out just before the
end is stored: a receiver that asks the store still finds the task running. (What no attempt sees,
such as a timeout, is told afterwards: `endings.py`.)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import cache, wraps
from inspect import iscoroutinefunction
from time import monotonic
from traceback import format_exception
from typing import Any

from asgiref.sync import sync_to_async
from django.dispatch import Signal

from omniq.contrib.django.backends.endings import note
from omniq.contrib.django.backends.framework import (
    Task,
    TaskContext,
    TaskError,
    TaskResultStatus,
    normalize_json,
    task_backends,
    task_finished,
    task_started,
)
from omniq.contrib.django.backends.result import as_enqueued, at, mark_of, task_at, task_result
from omniq.contrib.django.backends.task import AnyTask, options_of
from omniq.contrib.django.compat import package
from omniq.errors import NotStarted
from omniq.queue.engine import engine_here
from omniq.queue.options import TaskOptions
from omniq.serialization import FUNCTIONS
from omniq.workers.context import current
from omniq.workers.run import Run, describe, failure

_log = logging.getLogger(package() or "")


def stands_for(task: AnyTask) -> tuple[Callable[..., Any], TaskOptions]:
    """What workers call for a task, and what it says of itself."""
    return _runner(task.func), options_of(task)


@cache
def _runner(func: Callable[..., Any]) -> Callable[..., Any]:
    if iscoroutinefunction(func):

        @wraps(func)
        async def arun(*args: Any, **kwargs: Any) -> Any:
            attempt = Attempt.here(args, kwargs)
            if attempt is None:
                return await func(*args, **kwargs)
            await attempt.atell(task_started)
            try:
                value = normalize_json(await func(*attempt.args, **kwargs))
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                if attempt.failed(error):
                    await attempt.atell(task_finished)
                raise
            if attempt.succeeded(value):
                await attempt.atell(task_finished)
            return value

        return arun

    @wraps(func)
    def run(*args: Any, **kwargs: Any) -> Any:
        attempt = Attempt.here(args, kwargs)
        if attempt is None:
            return func(*args, **kwargs)
        attempt.tell(task_started)
        try:
            value = normalize_json(func(*attempt.args, **kwargs))
        except BaseException as error:
            if attempt.failed(error):
                attempt.tell(task_finished)
            raise
        if attempt.succeeded(value):
            attempt.tell(task_finished)
        return value

    return run


class Attempt:
    """What the running task is to Django. `args` are those its function is called with."""

    def __init__(self, task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        context = current()
        self._row, self._engine = context.row, engine_here()
        self._body, self._begun = self._engine.body(self._row), monotonic()
        task = as_enqueued(task, self._row, context.metadata)
        alias = mark_of(context.metadata).get("backend", task.backend)
        self.result = task_result(self._row, task, alias, args, kwargs)
        self._sender = type(task_backends[alias])
        self.args = (TaskContext(task_result=self.result), *args) if task.takes_context else args

    @classmethod
    def here(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Attempt | None:
        """The attempt that runs here; None if somebody just calls the function."""
        try:
            task = task_at(current().row.name, trusted=True)
        except NotStarted:
            return None
        return None if task is None else cls(task, args, kwargs)

    def succeeded(self, value: Any) -> bool:
        """It returned; whether that ends the task."""
        if self._overdue:
            return False
        self._end(TaskResultStatus.SUCCESSFUL)
        object.__setattr__(self.result, "_return_value", value)
        return True

    def failed(self, error: BaseException) -> bool:
        """It raised; whether that ends the task."""
        if self._overdue:
            return False
        row, engine = self._row, self._engine
        run = Run(row, self._body, lambda context: None)
        move = engine.settle(row, run.body, failure(error, run))
        if move.to is None or not move.to.final:
            _log.warning(
                "Task id=%s path=%s attempt=%s comes back: %s",
                row.id,
                self.result.task.module_path,
                row.attempt,
                describe(error, row).type,
                exc_info=True,
            )
            return False
        self._end(TaskResultStatus.FAILED)
        self.result.errors.append(error_of(error))
        note(row)
        return True

    @property
    def _overdue(self) -> bool:
        """Whether its timeout has ended it before: a thread cannot be stopped."""
        timeout = self._body.timeout
        return timeout is not None and monotonic() - self._begun > timeout

    def tell(self, signal: Signal) -> None:
        """Send a signal; what receivers raise is logged and does the task no harm."""
        signal.send_robust(self._sender, task_result=self.result)

    async def atell(self, signal: Signal) -> None:
        """The same from a coroutine."""
        # Not by `asend`: its receivers would not see the error that is being handled here.
        try:
            await sync_to_async(self.tell, thread_sensitive=True)(signal)
        except RuntimeError:  # a Python that is ending starts no threads, and the task has run
            self.tell(signal)

    def _end(self, status: TaskResultStatus) -> None:
        object.__setattr__(self.result, "status", status)
        object.__setattr__(self.result, "finished_at", at(self._engine.clock.now()))


def error_of(error: BaseException) -> TaskError:
    """An exception as Django keeps it."""
    kind = type(error)
    return TaskError(
        exception_class_path=f"{kind.__module__}.{kind.__qualname__}",
        traceback="".join(format_exception(error)),
    )


def adopt() -> None:
    """From now on workers of this process know tasks, and OmniQ's own queue takes them."""
    FUNCTIONS.adopt(Task, stands_for)
