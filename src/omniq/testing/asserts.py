"""Looking at what was enqueued, with messages that show what was enqueued instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from omniq.core import AsyncOmniQ
from omniq.errors import InvalidTask
from omniq.models.task import Seconds, WorkerKind
from omniq.serialization import FUNCTIONS
from omniq.sync import OmniQ
from omniq.testing.modes import noted
from omniq.testing.records import Enqueued, call_text

SHOWN = 20
"""So many tasks are listed in a message."""

Func = Callable[..., Any] | str
_UNSAID: Any = object()


def enqueued(queue: AsyncOmniQ | OmniQ, func: Func | None = None) -> list[Enqueued]:
    """What was enqueued so far, or of it the tasks of one function, in order.

    `func` is the function, or the name workers know it by.
    """
    name = None if func is None else _name(func)
    return [task for task in noted(queue) if name in (None, task.name)]


def assert_enqueued(
    queue: AsyncOmniQ | OmniQ,
    func: Func | None = None,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    times: int | None = None,
    queue_name: str | None = None,
    priority: int | None = None,
    delay: Seconds | None = None,
    run_at: datetime | None = None,
    unique: str | None = None,
    tags: Iterable[str] = (),
    metadata: Mapping[str, Any] = _UNSAID,
    worker: WorkerKind | None = None,
) -> list[Enqueued]:
    """Fail unless such a task was enqueued; gives those that fit.

    Only what is said is compared: `args` and `kwargs` as a whole (whether an argument was
    given by its place or by its name does not matter if both are said, or the other is
    empty), `delay` in seconds, `tags` as some of the task's. `times`: exactly so often; else
    at least once.
    """
    wanted: dict[str, Any] = {
        "queue": queue_name,
        "priority": priority,
        "delay": delay.total_seconds() if isinstance(delay, timedelta) else delay,
        "run_at": run_at,
        "unique": unique,
        "tags": tuple(tags) or None,
        "worker": worker,
    }
    wanted = {what: value for what, value in wanted.items() if value is not None}
    if metadata is not _UNSAID:
        wanted["metadata"] = metadata
    if isinstance(args, str):
        raise TypeError(f"args={args!r}: for a single argument write args=({args!r},)")
    asked = enqueued(queue, func)
    found = [task for task in asked if not _differences(task, args, kwargs, wanted)]
    if found if times is None else len(found) == times:
        return found
    raise AssertionError(_message(noted(queue), asked, func, args, kwargs, wanted, times, found))


def assert_nothing_enqueued(queue: AsyncOmniQ | OmniQ, func: Func | None = None) -> None:
    """Fail if something was enqueued, or a task of this function."""
    if found := enqueued(queue, func):
        what = "nothing" if func is None else f"no {_name(func)}"
        raise AssertionError(f"{what} was to be enqueued, but:\n{_list(found)}")


def _name(func: Func) -> str:
    try:
        return FUNCTIONS.refer(func).name
    except InvalidTask:
        return func if isinstance(func, str) else getattr(func, "__qualname__", repr(func))


def _differences(
    task: Enqueued,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    wanted: Mapping[str, Any],
) -> list[str]:
    """What of a task is not as wanted, in words."""
    found = []
    as_said = (args is None or tuple(args) == task.args) and (
        kwargs is None or dict(kwargs) == task.kwargs
    )
    if not as_said and not _same_call(task, tuple(args or ()), dict(kwargs or {})):
        found.append(f"it was called with ({call_text(task.args, task.kwargs)})")
    for what, value in wanted.items():
        had = _had(task, what)
        fits = set(value) <= set(had) if what == "tags" else had == value
        if not fits:
            found.append(f"{what} was {had!r}")
    return found


def _same_call(task: Enqueued, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether both spell the same call."""
    if isinstance(task.func, str):
        return False
    try:
        signature = inspect.signature(task.func)
        had = signature.bind(*task.args, **task.kwargs)
        wanted = signature.bind(*args, **kwargs)
    except (TypeError, ValueError):
        return False
    return had.arguments == wanted.arguments


def _had(task: Enqueued, what: str) -> Any:
    row = task.row
    if what == "unique":
        return row.unique and row.unique.key
    if what == "worker":
        return row.lane
    if what in ("queue", "delay"):
        return getattr(task, what)
    if what in ("run_at", "metadata"):
        return getattr(task.task, what)
    return getattr(row, what)


def _message(
    all_tasks: list[Enqueued],
    asked: list[Enqueued],
    func: Func | None,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    wanted: Mapping[str, Any],
    times: int | None,
    found: list[Enqueued],
) -> str:
    what = "a task" if func is None else _name(func)
    if args is not None or kwargs is not None:
        what += f"({call_text(tuple(args or ()), dict(kwargs or {}))})"
    if wanted:
        what += " with " + ", ".join(f"{name}={value!r}" for name, value in wanted.items())
    text = f"{what} was not enqueued"
    if times is not None:
        text = f"{what} was enqueued {_times(len(found))}, not {_times(times)}"
    if not all_tasks:
        return f"{text}; nothing was"
    notes = {
        task.id: ", ".join(_differences(task, args, kwargs, wanted))
        for task in (asked if func is not None else [])
    }
    return f"{text}. What was:\n{_list(all_tasks, notes)}"


def _list(tasks: list[Enqueued], notes: Mapping[str, str] | None = None) -> str:
    lines = []
    for number, task in enumerate(tasks[:SHOWN], 1):
        note = (notes or {}).get(task.id)
        lines.append(f"  {number}. {task}" + (f"   <- {note}" if note else ""))
    if len(tasks) > SHOWN:
        lines.append(f"  ... and {len(tasks) - SHOWN} more")
    return "\n".join(lines)


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")
