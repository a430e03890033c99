"""One run of one claimed task, and how it is carried out."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, Literal

from omniq.errors import FunctionNotFound, PayloadTooLarge, Retry, SerializationError, Snooze
from omniq.models.outcome import Failed, Outcome, Snoozed, UnknownFunction
from omniq.models.result import AttemptError
from omniq.models.row import TaskRow
from omniq.models.task import TaskBody
from omniq.workers.context import TaskContext

MAX_TRACEBACK = 8192
MAX_TEXT = 2048

Reason = Literal["cancel", "stop", "lost"]
"""Why a run is interrupted: somebody cancelled it, the worker stops, another has it now."""


class Overdue(BaseException):
    """The timeout ran out; not the same as a TimeoutError of the task's own."""


class Run:
    """A claimed row on its way through a lane. `handle` is the lane's own."""

    __slots__ = ("body", "context", "handle", "interrupted", "row", "settled", "started", "timer")

    def __init__(self, row: TaskRow, body: TaskBody, note: Callable[[TaskContext], None]) -> None:
        self.row, self.body = row, body
        self.context = TaskContext(row, body.metadata, note)
        self.interrupted: Reason | None = None
        self.settled = False
        """Its outcome was taken; whatever comes later is dropped."""
        self.started = 0.0
        """`time.monotonic()` of its start; 0 before."""
        self.handle: Any = None
        self.timer: Any = None


def failure(error: BaseException, run: Run) -> Outcome:
    """What an exception means: a signal of the task, or a failed attempt kept as text."""
    if isinstance(error, Snooze):
        return Snoozed(error.delay)
    if isinstance(error, FunctionNotFound):
        return UnknownFunction(_text(str(error)))
    text = describe(error, run.row)
    if isinstance(error, Retry):
        return Failed(text, again=True, delay=error.delay)
    if isinstance(error, SerializationError | PayloadTooLarge):
        return Failed(text, again=False)  # the same bytes would fail the same way
    return Failed(text)


def timed_out(run: Run) -> Failed:
    """The failure of a run that took longer than its timeout."""
    return Failed(
        AttemptError(
            type="TimeoutError",
            message=f"it ran longer than its timeout of {run.body.timeout:g} s",
            attempt=run.row.attempt,
            bases=("TimeoutError", "OSError", "Exception"),
        )
    )


def describe(error: BaseException, row: TaskRow) -> AttemptError:
    """An exception as text; survives exceptions that cannot even be printed."""
    try:
        message = _text(str(error), MAX_TEXT)
    except BaseException as second:
        message = f"<its text cannot be read: {type(second).__name__}>"
    try:
        trace = _text("".join(traceback.format_exception(error)))
    except BaseException as second:
        trace = f"<its traceback cannot be read: {type(second).__name__}>"
    if len(trace) > MAX_TRACEBACK:
        half = MAX_TRACEBACK // 2
        trace = f"{trace[:half]}\n... cut ...\n{trace[-half:]}"
    return AttemptError(
        type=dotted(type(error)),
        message=message,
        traceback=trace,
        attempt=row.attempt,
        bases=tuple(dotted(c) for c in type(error).__mro__ if c is not object),
    )


def _text(text: str, limit: int | None = None) -> str:
    """Text that can be stored: file names in messages may hold what no encoding takes."""
    return str(text)[:limit].encode("utf-8", "backslashreplace").decode()


def dotted(cls: type) -> str:
    """A class's name as rules and people know it: `ValueError`, `httpx.ConnectError`."""
    if cls.__module__ in ("builtins", "__main__"):
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"
