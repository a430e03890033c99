"""Testing help in Django's habits: test cases, drains, and a look at what was enqueued.

Everything goes where the settings say, and so works inside TestCase's transaction, too. The
functions block; in an async test await their twins with an `a` in front.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar, Unpack

from asgiref.sync import sync_to_async
from django.test import TestCase, TransactionTestCase

from omniq._records import Drained as Drained
from omniq._records import Enqueued as Enqueued
from omniq._wanted import Func, Wanted, expect, expect_none, of
from omniq.backend import create_storage
from omniq.contrib.django.backends.result import MARK
from omniq.contrib.django.conf import overlaid
from omniq.contrib.django.drain import Drain, desk
from omniq.contrib.django.runtime import keeping_in, refuse_async
from omniq.contrib.django.workers.homes import homes
from omniq.errors import OmniQError
from omniq.models.config import StorageConfig
from omniq.models.filters import TaskFilter
from omniq.models.row import TaskRow
from omniq.models.task import Task
from omniq.queue.engine import Engine
from omniq.serialization import FUNCTIONS
from omniq.storage.base import BaseTaskQueue

P = ParamSpec("P")
T = TypeVar("T")

Until = datetime | timedelta | None


def drain(*, limit: int | None = None, until: Until = None, raise_errors: bool = False) -> Drained:
    """Run every task that is ready, and what it releases or enqueues, here and one by one.

    Tasks run in this thread, on its connections and in its transaction. What they ask for by
    `transaction.on_commit` happens when they end. Tasks that are due later, retries among
    them, stay: `until`, a time or a length of time from now, runs those due by then early.

    `limit` is how many runs there may be. Failures are stored as ever; `raise_errors` raises
    the first one besides, as the task raised it, and leaves the rest for another drain.
    """
    refuse_async("drain()", "await adrain(...)")
    return Drain(limit=limit, raise_errors=raise_errors).work(until)


def run_until_empty(*, raise_errors: bool = False) -> Drained:
    """Run every task there is, whenever it is due, retries included, until none can run.

    `raise_errors` raises the first failure for good.
    """
    refuse_async("run_until_empty()", "await arun_until_empty(...)")
    return Drain(limit=None, raise_errors=raise_errors).work(timedelta.max)


def enqueued(func: Func | Any = None) -> list[Enqueued]:
    """What was enqueued, whatever became of it, the oldest first; or the tasks of one function.

    `func` is a task, a function, or the name workers know it by. What waits for a commit is
    not enqueued yet.
    """
    refuse_async("enqueued()", "await aenqueued(...)")
    found: list[Enqueued] = []
    for home in homes():
        with overlaid(home):
            here = desk()
            ids = [row.id for row in here.find(TaskFilter(oldest_first=True))]
            found += [_enqueued(row, here.engine) for row in here.rows(ids)]
    return of(sorted(found, key=lambda task: task.id), func)


def assert_enqueued(
    func: Func | Any = None,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    times: int | None = None,
    **wanted: Unpack[Wanted],
) -> list[Enqueued]:
    """Fail unless such a task was enqueued; gives those that fit.

    Only what is said is compared: `args` and `kwargs` as a whole (whether an argument was
    given by its place or by its name does not matter if both are said, or the other is
    empty), `delay` in seconds, `tags` as some of the task's. `times`: exactly so often; else
    at least once.
    """
    return expect(enqueued(), func, args, kwargs, times=times, **wanted)


def assert_nothing_enqueued(func: Func | Any = None) -> None:
    """Fail if something was enqueued, or a task of this function."""
    expect_none(enqueued(), func)


def _async(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    return sync_to_async(function, thread_sensitive=True)


adrain = _async(drain)
arun_until_empty = _async(run_until_empty)
aenqueued = _async(enqueued)
aassert_enqueued = _async(assert_enqueued)
aassert_nothing_enqueued = _async(assert_nothing_enqueued)


@contextmanager
def fresh_store() -> Iterator[None]:
    """Keep tasks in memory, in a store that is empty at first and forgotten at the end.

    Tasks in a database of Django's stay there: its transaction, or the flush behind a
    TransactionTestCase, forgets them.
    """
    with keeping_in(_in_memory):
        yield


class OmniQTestMixin:
    """For any test case of Django's: a store of its own for each test, and assertions."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with fresh_store():
            return super().__call__(*args, **kwargs)  # type: ignore[misc]  # a TestCase's

    def debug(self) -> None:
        with fresh_store():
            super().debug()  # type: ignore[misc]  # a TestCase's

    drain = staticmethod(drain)
    run_until_empty = staticmethod(run_until_empty)
    enqueued = staticmethod(enqueued)
    assertEnqueued = staticmethod(assert_enqueued)  # noqa: N815 - as unittest names them
    assertNothingEnqueued = staticmethod(assert_nothing_enqueued)  # noqa: N815
    adrain = staticmethod(adrain)
    arun_until_empty = staticmethod(arun_until_empty)
    aenqueued = staticmethod(aenqueued)
    aassertEnqueued = staticmethod(aassert_enqueued)  # noqa: N815
    aassertNothingEnqueued = staticmethod(aassert_nothing_enqueued)  # noqa: N815


class OmniQTestCase(OmniQTestMixin, TestCase):
    """Django's TestCase with a store of its own for each test, drains and assertions."""


class OmniQTransactionTestCase(OmniQTestMixin, TransactionTestCase):
    """Django's TransactionTestCase with the same."""


def _in_memory() -> BaseTaskQueue:
    return create_storage(StorageConfig(type="memory"))


def _enqueued(row: TaskRow, engine: Engine) -> Enqueued:
    """A task as it was said, as far as its row tells."""
    body = engine.body(row)
    call = engine.call(row, body)
    metadata = {key: value for key, value in (body.metadata or {}).items() if key != MARK}
    later = row.run_at > row.created_at
    try:
        func: Any = FUNCTIONS.resolve(row.name)
    except OmniQError:
        func = row.name
    task = Task(
        func=func,
        args=call.args,
        kwargs=call.kwargs,
        id=row.id,
        run_at=datetime.fromtimestamp(row.run_at / 1000, UTC) if later else None,
        metadata=metadata or None,
    )
    return Enqueued(task, row)
