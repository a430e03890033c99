"""Looking for a task among those that were enqueued, with messages that show what was instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict, Unpack

from omniq._records import Enqueued, call_text
from omniq.errors import InvalidTask, UnknownOption
from omniq.models.task import Seconds, WorkerKind
from omniq.serialization import FUNCTIONS

SHOWN = 20
"""So many tasks are listed in a message."""

Func = Callable[..., Any] | str


class Wanted(TypedDict, total=False):
    """What a task may be asked for besides its function and arguments."""

    queue_name: str | None
    priority: int | None
    delay: Seconds | None
    run_at: datetime | None
    unique: str | None
    tags: Iterable[str]
    metadata: Mapping[str, Any] | None
    worker: WorkerKind | None


def of(tasks: Iterable[Enqueued], func: Func | None) -> list[Enqueued]:
    """The tasks of one function, or all."""
    name = None if func is None else name_of(func)
    return [task for task in tasks if name in (None, task.name)]


def expect(
    tasks: list[Enqueued],
    func: Func | None,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    *,
    times: int | None,
    **said: Unpack[Wanted],
) -> list[Enqueued]:
    """The tasks that are as wanted; AssertionError if there are none, or not `times` many."""
    wanted = _wanted(said)
    if isinstance(args, str):
        raise TypeError(f"args={args!r}: for a single argument write args=({args!r},)")
    asked = of(tasks, func)
    found = [task for task in asked if not _differences(task, args, kwargs, wanted)]
    if found if times is None else len(found) == times:
        return found
    raise AssertionError(_message(tasks, asked, func, args, kwargs, wanted, times, found))


def expect_none(tasks: list[Enqueued], func: Func | None) -> None:
    """AssertionError if there is a task, or one of this function."""
    if found := of(tasks, func):
        what = "nothing" if func is None else f"no {name_of(func)}"
        raise AssertionError(f"{what} was to be enqueued, but:\n{_list(found)}")


def _wanted(said: Wanted) -> dict[str, Any]:
    given: dict[str, Any] = dict(said)
    for name in given:
        if name not in Wanted.__annotations__:
            raise UnknownOption(name, Wanted.__annotations__, where="assert_enqueued()")
    wanted = {what: value for what, value in given.items() if value is not None}
    if "queue_name" in wanted:
        wanted["queue"] = wanted.pop("queue_name")
    if isinstance(delay := wanted.get("delay"), timedelta):
        wanted["delay"] = delay.total_seconds()
    if tags := tuple(wanted.pop("tags", ())):
        wanted["tags"] = tags
    if "metadata" in given:
        wanted["metadata"] = given["metadata"]
    return wanted


def name_of(func: Func) -> str:
    """The name workers know a function by, for messages too if it has none."""
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
    what = "a task" if func is None else name_of(func)
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
