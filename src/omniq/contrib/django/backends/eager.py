"""`EagerBackend`: tasks run at once, where they are enqueued. For tests and development."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DEFAULT_DB_ALIAS, transaction
from django.dispatch import Signal
from django.utils import timezone

from omniq.clock import SYSTEM_CLOCK
from omniq.contrib.django.backends.attempt import error_of
from omniq.contrib.django.backends.framework import (
    ImmediateBackend,
    TaskContext,
    TaskResult,
    TaskResultStatus,
    normalize_json,
    task_enqueued,
    task_finished,
    task_started,
)
from omniq.contrib.django.backends.result import not_started
from omniq.contrib.django.backends.task import AnyTask, OmniQTask, options_of
from omniq.events.gate import EventGate
from omniq.ids import uuid7
from omniq.models.outcome import Snoozed
from omniq.models.row import TaskRow
from omniq.models.status import Status
from omniq.models.task import RetryPolicy, TaskBody
from omniq.queue import policy
from omniq.workers.run import Run, failure

_RULES = policy.Rules(events=EventGate("DISABLED", 0), retry=RetryPolicy(retries=0))
MAX_ATTEMPTS = 100
"""A task that asks for a retry again and again is left alone after so many."""


class EagerBackend(ImmediateBackend):
    """Django's ImmediateBackend for tasks that carry OmniQ's options.

    A failed task is tried again, without the delay between, where it says `retries=` itself.
    What only a worker can keep (`timeout`, `ttl`, `unique`, `worker`, `delay`) is of no account.
    """

    task_class: Any = OmniQTask
    enqueues_on_commit = True

    def enqueue(
        self,
        task: AnyTask,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        on_commit: bool | None = None,
    ) -> TaskResult[Any]:
        """Run a task, and give what became of it; `on_commit` runs it when that comes."""
        result = self._result(task, args, kwargs)
        if on_commit:
            transaction.on_commit(partial(self._execute_task, result), using=DEFAULT_DB_ALIAS)
        else:
            self._execute_task(result)
        return result

    async def aenqueue(
        self,
        task: AnyTask,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        on_commit: bool | None = None,
    ) -> TaskResult[Any]:
        """The same. A coroutine runs in the caller's loop, a plain function in Django's thread."""
        if on_commit or not iscoroutinefunction(task.func):
            enqueue = partial(self.enqueue, task, args, kwargs, on_commit=on_commit)
            return await sync_to_async(enqueue, thread_sensitive=True)()
        result = self._result(task, args, kwargs)
        _put(result, enqueued_at=timezone.now())
        await self._atell(task_enqueued, result)
        for n in range(1, MAX_ATTEMPTS + 1):
            self._begin(result)
            await self._atell(task_started, result)
            try:
                value = await task.func(*_args(result), **result.kwargs)
                self._succeed(result, value)
            except KeyboardInterrupt:
                raise
            except asyncio.CancelledError as error:
                if (here := asyncio.current_task()) and here.cancelling():
                    raise  # of the caller, not of the task
                self._fail(result, error, MAX_ATTEMPTS)
                await self._atell(task_finished, result)
            except BaseException as error:
                if self._fail(result, error, n):
                    continue
                if result.is_finished:
                    await self._atell(task_finished, result)
            else:
                await self._atell(task_finished, result)
            break
        return result

    def _execute_task(self, result: TaskResult[Any]) -> None:
        _put(result, enqueued_at=timezone.now())
        task_enqueued.send(type(self), task_result=result)
        for n in range(1, MAX_ATTEMPTS + 1):
            self._begin(result)
            task_started.send(type(self), task_result=result)
            try:
                self._succeed(result, result.task.call(*_args(result), **result.kwargs))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if self._fail(result, error, n):
                    continue
                if result.is_finished:
                    task_finished.send(type(self), task_result=result)
            else:
                task_finished.send(type(self), task_result=result)
            break

    def _result(
        self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> TaskResult[Any]:
        self.validate_task(task)
        return not_started(task, args, kwargs, id=uuid7(), alias=self.alias, enqueued_at=None)

    async def _atell(self, signal: Signal, result: TaskResult[Any]) -> None:
        # Not by `asend`: its receivers would not see the error that is being handled here.
        send = partial(signal.send, type(self), task_result=result)
        await sync_to_async(send, thread_sensitive=True)()

    def _begin(self, result: TaskResult[Any]) -> None:
        now = timezone.now()
        _put(result, status=TaskResultStatus.RUNNING, last_attempted_at=now)
        _put(result, started_at=result.started_at or now)
        result.worker_ids.append(self.worker_id)

    def _succeed(self, result: TaskResult[Any], value: Any) -> None:
        _put(result, _return_value=normalize_json(value))
        _put(result, status=TaskResultStatus.SUCCESSFUL, finished_at=timezone.now())

    def _fail(self, result: TaskResult[Any], error: BaseException, attempt: int) -> bool:
        """Take a failed attempt down; whether the rules want another one."""
        row = TaskRow(
            id=result.id,
            queue=result.task.queue_name,
            lane="thread",
            name=result.task.module_path,
            status=Status.RUNNING,
            attempt=attempt,
        )
        run = Run(row, TaskBody(b"", retry=_retries(result.task)), lambda context: None)
        outcome = failure(error, run)
        if isinstance(outcome, Snoozed):
            _put(result, status=TaskResultStatus.READY)  # it comes back later, and there is none
            return False
        result.errors.append(error_of(error))
        move = policy.settle(row, run.body, outcome, SYSTEM_CLOCK.now(), _RULES)
        if move.to is Status.READY and attempt < MAX_ATTEMPTS:
            return True
        _put(result, status=TaskResultStatus.FAILED, finished_at=timezone.now())
        return False


def _args(result: TaskResult[Any]) -> list[Any]:
    context = [TaskContext(task_result=result)] if result.task.takes_context else []
    return [*context, *result.args]


def _put(result: TaskResult[Any], **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(result, name, value)


def _retries(task: AnyTask) -> RetryPolicy:
    return options_of(task).retry_policy(_RULES.retry) or _RULES.retry
