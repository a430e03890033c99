"""`OmniQTask`: a task of Django's framework that says how OmniQ is to run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from django.utils.module_loading import import_string
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from omniq.contrib.django.backends.framework import InvalidTask, Task, TaskResult
from omniq.errors import OmniQError, UnknownOption
from omniq.models.row import Dep, Unique
from omniq.models.task import Seconds, WorkerKind
from omniq.queue import checks
from omniq.queue.options import TaskOptions, exception_names

if TYPE_CHECKING:
    AnyTask = Task[..., Any]
else:
    AnyTask = Task

Exceptions = Sequence[type[BaseException] | str] | type[BaseException] | str

_CALL = ("unique", "depends_on", "metadata", "delay")
"""What belongs to one call, not to the function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OmniQTask(AnyTask):
    """What `@task` makes where the backend is OmniQ's.

    Every option may stand in the decorator or in `.using(...)`; what is left out follows
    `settings.OMNIQ`. Lengths of time are seconds or timedeltas. `run_after` of `.using` also
    takes a timedelta, counted from the enqueue.
    """

    retries: int | UnsetType = UNSET
    retry_delay: Seconds | UnsetType = UNSET
    retry_on: Exceptions = ()
    never_retry: Exceptions = ()
    timeout: Seconds | UnsetType | None = UNSET
    ttl: Seconds | UnsetType | None = UNSET
    result_ttl: Seconds | UnsetType | None = UNSET
    tags: Sequence[str] | UnsetType = UNSET
    worker: WorkerKind | UnsetType = UNSET
    unique: str | Unique | None = None
    depends_on: Sequence[str | Dep] | str = ()
    metadata: dict[str, Any] | None = None
    delay: Seconds | None = None

    # `super()` finds nothing here: a dataclass with slots is a second class.

    def __new__(cls, **given: Any) -> Self:
        known = {field.name for field in fields(cls)}
        for name in given:
            if name not in known:
                raise UnknownOption(name, known - {"func"}, where="@task(...)")
        return object.__new__(cls)

    def __post_init__(self) -> None:
        Task.__post_init__(self)
        try:
            options_of(self)
            checks.unique_key(self.unique)
            checks.parents(self.depends_on)
            checks.plain_metadata(self.metadata)
            checks.seconds(self.delay, "delay")
        except OmniQError as error:
            raise InvalidTask(str(error)) from error

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | timedelta | None = None,
        backend: str | None = None,
        **options: Any,
    ) -> Self:
        """A copy with other defaults; an option that is not named stays as it is."""
        changes = {name: getattr(self, name) for name in self.__dataclass_fields__}
        said = {"priority": priority, "queue_name": queue_name, "backend": backend}
        changes |= {name: value for name, value in said.items() if value is not None} | options
        if isinstance(run_after, timedelta):
            changes |= {"delay": run_after, "run_after": None}
        elif run_after is not None:
            changes |= {"delay": None, "run_after": run_after}
        elif options.get("delay") is not None:
            changes["run_after"] = None
        return type(self)(**changes)

    def enqueue_on_commit(self, *args: Any, **kwargs: Any) -> TaskResult[Any]:
        """Enqueue when the transaction commits, and not at all if it rolls back.

        Outside of a transaction, at once. The id is known right away; until the commit there
        is no result under it.
        """
        told: TaskResult[Any] = _backend(self).enqueue(self, args, kwargs, on_commit=True)
        return told

    async def aenqueue_on_commit(self, *args: Any, **kwargs: Any) -> TaskResult[Any]:
        """See enqueue_on_commit()."""
        told: TaskResult[Any] = await _backend(self).aenqueue(self, args, kwargs, on_commit=True)
        return told

    @classmethod
    def _reconstruct(cls, kwargs: dict[str, Any]) -> Self:
        path = kwargs["func"]
        try:
            found = import_string(path).func
        except (ImportError, AttributeError) as error:
            raise ValueError(f"Expected {path!r} to point to a Task instance.") from error
        return cls(**{**kwargs, "func": found})

    def __reduce__(self) -> tuple[Any, ...]:
        kwargs = {field.name: getattr(self, field.name) for field in fields(self)}
        return type(self)._reconstruct, ({**kwargs, "func": self.module_path},)


def options_of(task: AnyTask) -> TaskOptions:
    """What a task says of itself, as OmniQ's own `@task(...)` would; raises InvalidTask."""
    options = TaskOptions(queue=checks.queue_name(task.queue_name), priority=int(task.priority))
    if not isinstance(task, OmniQTask):
        return options
    said: dict[str, Any] = {
        "ttl": task.ttl,
        "timeout": task.timeout,
        "result_ttl": task.result_ttl,
        "retries": task.retries,
        "retry_delay": task.retry_delay,
        "tags": task.tags,
        "worker": task.worker,
    }
    said = {name: value for name, value in said.items() if value is not UNSET}
    for name, check in _CHECKS.items():
        if name in said:
            said[name] = check(said[name])
    for name, classes in (("retry_on", task.retry_on), ("never_retry", task.never_retry)):
        if classes:
            said[name] = exception_names(classes, option=name)
    return replace(options, **said)


_CHECKS: dict[str, Any] = {
    "ttl": lambda value: checks.seconds(value, "ttl"),
    "timeout": checks.timeout,
    "result_ttl": lambda value: checks.seconds(value, "result_ttl"),
    "retries": checks.retries,
    "retry_delay": lambda value: checks.seconds(value, "retry_delay"),
    "tags": checks.tag_names,
    "worker": checks.lane_kind,
}


def call_options(task: AnyTask) -> dict[str, Any]:
    """What belongs to this call: for `omniq.Task`, without what `options_of` says."""
    if not isinstance(task, OmniQTask):
        return {}
    return {name: getattr(task, name) for name in _CALL if getattr(task, name) is not None}


def changed(task: AnyTask, **changes: Any) -> AnyTask:
    """A copy that nobody validates: it tells what a row says, whatever settings say now."""
    copy = object.__new__(type(task))
    for name in type(task).__dataclass_fields__:
        object.__setattr__(copy, name, changes.get(name, getattr(task, name)))
    return copy


def _backend(task: OmniQTask) -> Any:
    backend = task.get_backend()
    if not hasattr(backend, "enqueues_on_commit"):
        raise InvalidTask(
            f"enqueue_on_commit() is OmniQ's, and the backend {task.backend!r} is "
            f"{type(backend).__name__}: there write transaction.on_commit(partial(task.enqueue, ...))"
        )
    return backend
