"""`OmniQBackend`: Django's tasks on an OmniQ queue.

`TASKS = {"default": {"BACKEND": "omniq.contrib.django.OmniQBackend"}}`. Everything else stands in
`settings.OMNIQ`; a backend's OPTIONS overlay it, so that two backends may have two stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.core.checks import Error
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, transaction
from django.utils import timezone

from omniq.config import load_config
from omniq.contrib.django.backends.attempt import adopt
from omniq.contrib.django.backends.framework import (
    BaseTaskBackend,
    InvalidTask,
    TaskResult,
    TaskResultDoesNotExist,
    task_enqueued,
)
from omniq.contrib.django.backends.result import (
    MARK,
    Reading,
    at,
    marked,
    not_started,
    opened,
    task_at,
)
from omniq.contrib.django.backends.task import AnyTask, OmniQTask, call_options, options_of
from omniq.contrib.django.conf import (
    Overlay,
    django_settings,
    overlaid,
    read_settings,
)
from omniq.contrib.django.faces import aqueue, queue
from omniq.contrib.django.runtime import blocking, native, on_loop, refuse_async
from omniq.errors import ConfigError, OmniQError, did_you_mean
from omniq.ids import is_task_id, time_of
from omniq.models.task import Task
from omniq.queue.stores import that_count

T = TypeVar("T")
_JSON: Final = (
    "what a Django task is given must be JSON. Pass what it can be found or made by again, an id "
    "or text, or let omniq.contrib.django.queue.enqueue() carry it to a plain function"
)


class OmniQBackend(BaseTaskBackend):
    """Keeps tasks where `settings.OMNIQ` says; workers run them.

    It holds nothing itself: Django makes one per thread, and all of them share the queue.
    """

    task_class: Any = OmniQTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True
    enqueues_on_commit = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, dict(params))
        if not isinstance(self.options, Mapping):
            raise ImproperlyConfigured(
                f"{self._label} is a {type(self.options).__name__}; a dict of settings is wanted, "
                f'for example {self._label} = {{"DATABASE": "default"}}'
            )
        self.overlay = Overlay.of(self.options)

    def validate_task(self, task: AnyTask) -> None:
        """Refuse what Django refuses, and names and options OmniQ cannot keep."""
        if self.queues and task.queue_name not in self.queues:
            near = did_you_mean(task.queue_name, self.queues)
            raise InvalidTask(  # Django's sentence, and what it leaves open
                f"Queue {task.queue_name!r} is not valid for backend. "
                f'TASKS[{self.alias!r}]["QUEUES"] does not have it{near}'
            )
        super().validate_task(task)
        try:
            options_of(task)
        except OmniQError as error:
            raise InvalidTask(str(error)) from error

    # -- enqueue -------------------------------------------------------------------------

    def enqueue(
        self,
        task: AnyTask,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        on_commit: bool | None = None,
    ) -> TaskResult[Any]:
        """Store a task, in the transaction that is open or when it commits, as settings say."""
        refuse_async("enqueue()", "await task.aenqueue(...)")
        with overlaid(self.overlay):
            wanted, result = self._wanted(task, args, kwargs)
            alias = _awaited(on_commit)
            queue.enqueue(wanted, on_commit=alias or False)
            tell = partial(task_enqueued.send, type(self), task_result=result)
            if alias is None:
                tell()
            else:
                transaction.on_commit(tell, using=alias)
        return result

    async def aenqueue(
        self,
        task: AnyTask,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        on_commit: bool | None = None,
    ) -> TaskResult[Any]:
        """See enqueue()."""
        with overlaid(self.overlay):
            wanted, result = self._wanted(task, args, kwargs)
            alias = _awaited(on_commit)
            await aqueue.enqueue(wanted, on_commit=alias or False)
            if alias is None:
                await task_enqueued.asend(type(self), task_result=result)
            else:
                tell = partial(task_enqueued.send, type(self), task_result=result)
                await _in_thread(partial(transaction.on_commit, tell, using=alias))
        return result

    def _wanted(
        self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Task, TaskResult[Any]]:
        """What OmniQ is given, and what the caller gets; raises what is wrong with either."""
        if not _app_is_there():  # no check of ours is asked then
            raise ImproperlyConfigured(
                f"TASKS[{self.alias!r}] uses OmniQ, but its app is not installed: add "
                '"omniq.contrib.django" to INSTALLED_APPS, and run `manage.py migrate`'
            )
        self.validate_task(task)
        _served(task)
        _findable(task)
        options = call_options(task)
        mine = marked(self.alias, task.run_after)
        metadata = {**(options.pop("metadata", None) or {}), MARK: mine}
        func: Any = task  # FUNCTIONS knows what it stands for
        wanted = Task(func=func, run_at=_aware(task.run_after), metadata=metadata, **options)
        moment = at(time_of(wanted.id))
        try:
            result = not_started(
                task, args, kwargs, id=wanted.id, alias=self.alias, enqueued_at=moment
            )
        except TypeError as error:
            raise TypeError(f"{error}: {_JSON}") from error
        wanted.args, wanted.kwargs = tuple(result.args), result.kwargs
        return wanted, result

    # -- results -------------------------------------------------------------------------

    def get_result(self, result_id: str) -> TaskResult[Any]:
        """How a task stands now. Raises TaskResultDoesNotExist, also for other backends' tasks."""
        refuse_async("get_result() and refresh()", "await ....aget_result(...) or arefresh()")
        with overlaid(self.overlay):
            return opened(self._found(result_id, self._read(_id(result_id))), self.alias)

    async def aget_result(self, result_id: str) -> TaskResult[Any]:
        """See get_result()."""
        id = _id(result_id)
        with overlaid(self.overlay):
            if django_settings().database is not None:
                reading = await _in_thread(partial(self._read, id))
            else:
                reading = await on_loop(_read_natively, id)
            return opened(self._found(result_id, reading), self.alias)

    def _read(self, id: str) -> Reading | None:
        if django_settings().database is None:
            return blocking()._run(_read_natively, id)
        from omniq.contrib.django.database import within

        here = within()
        rows = here.place.get_tasks([id])
        results = here.place.get_results([id])
        return _reading(rows, that_count({row.id: row.epoch for row in rows}, results), here.engine)

    def _found(self, id: str, reading: Reading | None) -> Reading:
        if reading is None:
            raise TaskResultDoesNotExist(id)
        return reading

    @property
    def _label(self) -> str:
        """What its options are called in an error."""
        return f'TASKS[{self.alias!r}]["OPTIONS"]'

    # -- the rest ------------------------------------------------------------------------

    def check(self, **kwargs: Any) -> Iterable[Any]:
        """What is wrong with the settings of this backend."""
        found = list(super().check(**kwargs))
        if not _app_is_there():
            found.append(
                Error(
                    f"TASKS[{self.alias!r}] uses OmniQ, but its app is not installed.",
                    hint='Add "omniq.contrib.django" to INSTALLED_APPS.',
                    id="omniq.E050",
                )
            )
        from omniq.contrib.django.database import refuse_place

        try:
            read = read_settings(self.options)
            refuse_place(read, load_config(read.omniq))
        except (ImproperlyConfigured, ConfigError) as error:
            where = self._label
            said = str(error).replace("OMNIQ[", f"{where}[").replace("OMNIQ has", f"{where} has")
            hint = "OPTIONS takes the keys of settings.OMNIQ and overlays them for this backend."
            found.append(Error(said, hint=hint, id="omniq.E051"))
        return found


def _app_is_there() -> bool:
    """Whether our app is installed, also where a test case's `available_apps` hide it."""
    name = "omniq.contrib.django"
    return apps.is_installed(name) or any(app.startswith(name) for app in settings.INSTALLED_APPS)


async def _read_natively(id: str) -> Reading | None:
    """On the loop thread."""
    omniq = native()
    await omniq.open()
    rows = await omniq.stores.tasks.get_tasks([id])
    return _reading(rows, await omniq.stores.read_results(rows), omniq.engine)


def _reading(rows: Any, results: Mapping[str, Any], engine: Any) -> Reading | None:
    return Reading(rows[0], results.get(rows[0].id), engine) if rows else None


def _id(result_id: object) -> str:
    """The id, if it can be one."""
    id = str(result_id)
    if not is_task_id(id):
        raise TaskResultDoesNotExist(result_id)
    return id


def _awaited(on_commit: bool | None) -> str | None:
    """The database whose commit is waited for. One that keeps the tasks needs no waiting."""
    settings = django_settings()
    if settings.database is not None:
        return None
    wanted = settings.enqueue_on_commit if on_commit is None else on_commit
    return DEFAULT_DB_ALIAS if wanted else None


def _aware(run_after: datetime | None) -> datetime | None:
    if run_after is None or timezone.is_aware(run_after):
        return run_after
    return timezone.make_aware(run_after)


def _served(task: AnyTask) -> None:
    """Refuse a queue that no worker looks into, where settings say which they do."""
    known = django_settings().queues
    if known and task.queue_name not in known:
        near = did_you_mean(task.queue_name, known)
        raise InvalidTask(f'Queue {task.queue_name!r} is not one of OMNIQ["QUEUES"]{near}')


def _findable(task: AnyTask) -> None:
    """Refuse what no worker would find again."""
    name = f"{task.func.__module__}:{task.func.__qualname__}"
    if task_at(name, trusted=False) is None:
        raise InvalidTask(
            f"workers look for the task under {task.module_path}, and a plain function stands "
            "there: write @task above the function, or give the task the function's name"
        )


async def _in_thread(function: partial[T]) -> T:
    """In the thread that Django's transactions of this request belong to."""
    return await sync_to_async(function, thread_sensitive=True)()


adopt()
