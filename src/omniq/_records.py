"""What tests are told: what was enqueued, and what was run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from omniq.models.row import TaskRow
from omniq.models.status import Status
from omniq.models.task import Task


class Enqueued(Struct, frozen=True):
    """A task as it was enqueued. `task` is what was said, `row` what was stored."""

    task: Task
    row: TaskRow

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def name(self) -> str:
        """The name workers know its function by."""
        return self.row.name

    @property
    def func(self) -> Callable[..., Any] | str:
        return self.task.func

    @property
    def args(self) -> tuple[Any, ...]:
        return tuple(self.task.args)

    @property
    def kwargs(self) -> dict[str, Any]:
        return dict(self.task.kwargs)

    @property
    def queue(self) -> str:
        return self.row.queue

    @property
    def delay(self) -> float:
        """Seconds between its enqueueing and the time from which it may run."""
        return max(self.row.run_at - self.row.created_at, 0) / 1000

    def __str__(self) -> str:
        said = [f"{self.name}({call_text(self.args, self.kwargs)})"]
        if self.queue != "default":
            said.append(f"queue={self.queue!r}")
        if self.row.priority:
            said.append(f"priority={self.row.priority}")
        if self.task.run_at is not None:
            said.append(f"run_at={datetime.fromtimestamp(self.row.run_at / 1000, UTC)}")
        elif self.delay:
            said.append(f"delay={self.delay:g}")
        if self.row.unique is not None:
            said.append(f"unique={self.row.unique.key!r}")
        if self.row.tags:
            said.append(f"tags={list(self.row.tags)}")
        return "  ".join(said)


class TaskRun(Struct, frozen=True):
    """One run of a task. `status` is what it is now: SCHEDULED or READY if it runs once more.

    `error` is what it raised, as it was raised.
    """

    id: str
    name: str
    attempt: int
    status: Status
    error: BaseException | None = None

    def __str__(self) -> str:
        text = f"{self.name} (attempt {self.attempt}): {self.status.name.lower()}"
        return text if self.error is None else f"{text}, {type(self.error).__name__}: {self.error}"


class Drained(Struct, frozen=True):
    """What a drain ran, in order. A retried task is there once for every run."""

    runs: tuple[TaskRun, ...] = ()

    @property
    def succeeded(self) -> int:
        """Tasks that ended well."""
        return self._number(Status.SUCCEEDED)

    @property
    def failed(self) -> int:
        """Tasks that failed for good."""
        return self._number(Status.FAILED)

    @property
    def again(self) -> int:
        """Runs whose task was put back: to be retried, snoozed, or not known here."""
        return len([run for run in self.runs if not run.status.final])

    def _number(self, status: Status) -> int:
        return len([run for run in self.runs if run.status is status])


def call_text(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Arguments as they are written in a call."""
    parts = [f"{arg!r:.200}" for arg in args]
    parts += [f"{name}={value!r:.200}" for name, value in kwargs.items()]
    return ", ".join(parts)
