"""What people may say of a task, made plain; InvalidTask says what was wrong with it.

Types are looked at while running: a wrong one that slipped through would be found out by a
worker only, when nobody is there to be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, cast, get_args

import msgspec
from msgspec import UnsetType

from omniq.errors import InvalidTask, did_you_mean
from omniq.ids import check_name, is_task_id
from omniq.models.row import Dep, Ms, Unique
from omniq.models.task import LANES, RetryPolicy, Task, WorkerKind

_MAX_PRIORITY = 32_767
_PLAIN_DICT = msgspec.msgpack.Decoder(dict[str, Any])
_encode = msgspec.msgpack.encode


def seconds(value: Any, what: str) -> float | None:
    """A length of time in seconds, or none."""
    if value is None or isinstance(value, UnsetType):
        return None
    length = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(length, bool) or not isinstance(length, int | float):
        raise InvalidTask(f"{what}={value!r}: give seconds or a timedelta")
    if not 0 <= length < 3.2e9:  # also refuses NaN
        raise InvalidTask(f"{what}={value!r}: it cannot be negative or further than a century")
    return float(length)


def timeout(value: Any) -> float | None:
    """How long a run may take."""
    length = seconds(value, "timeout")
    if length == 0:
        raise InvalidTask("timeout=0: a task needs some time; leave it out for no limit")
    return length


def run_at(task: Task, now: Ms) -> Ms:
    """The stamp from which a task may run."""
    when: Any = task.run_at
    if when is None:
        return now + round((seconds(task.delay, "delay") or 0) * 1000)
    if task.delay is not None:
        raise InvalidTask("a task takes delay= or run_at=, not both")
    if not isinstance(when, datetime):
        raise InvalidTask(f"run_at={when!r}: give a datetime, or use delay= in seconds")
    if when.tzinfo is None:
        raise InvalidTask(
            f"run_at={when!r} has no time zone: write datetime(..., tzinfo=UTC), "
            "or use delay= in seconds"
        )
    return round(when.timestamp() * 1000)


def priority(value: Any) -> int:
    """Larger runs sooner."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MAX_PRIORITY:
        raise InvalidTask(
            f"priority={value!r}: an integer from -{_MAX_PRIORITY} to {_MAX_PRIORITY}, "
            "larger runs sooner"
        )
    return int(value)


def unique_key(value: Any) -> Unique | None:
    """The key only one living task may hold."""
    if value is None:
        return None
    unique = value if isinstance(value, Unique) else Unique(value)
    if unique.key == "":
        raise InvalidTask(f"unique={value!r} is no key: give the text that may exist only once")
    free: Any = unique.free
    if free not in ("start", "end", "time"):
        raise InvalidTask(f"unique={value!r}: a key is free at the start, the end or a time")
    return Unique(plain_text(unique.key, "unique"), unique.until, free)


def parents(wanted: Any) -> tuple[Dep, ...]:
    """What a task waits for, each parent once."""
    if isinstance(wanted, str | Dep):
        wanted = (wanted,)
    deps: dict[str, Dep] = {}
    for given in wanted if isinstance(wanted, Iterable) else (wanted,):
        dep: Any = Dep(given) if isinstance(given, str) else given
        if (
            not isinstance(dep, Dep)
            or not isinstance(cast(Any, dep.parent), str)
            or dep.need not in ("success", "end")
            or dep.missing not in ("done", "fail", "refuse")
        ):
            raise InvalidTask(f"depends_on={given!r}: give the ids of tasks, or Dep(id, ...)")
        parent = str.__str__(dep.parent)
        if parent not in deps or dep.need == "success":  # named twice: it must succeed
            deps[parent] = Dep(parent, dep.need, dep.missing)
    return tuple(deps.values())


def tag_names(tags: Any) -> tuple[str, ...]:
    """Words a task can be found by."""
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise InvalidTask(f"tags={tags!r}: give a list of tags, such as [{tags!r}]")
    return tuple(plain_text(tag, "tags") for tag in tags)


def plain_text(text: Any, what: str) -> str:
    """Text that every place can store."""
    if not isinstance(text, str):
        raise InvalidTask(f"{what}={text!r}: it must be text")
    try:
        str.encode(text)
    except UnicodeEncodeError as error:
        raise InvalidTask(f"{what}={text!r} cannot be stored: {error.reason}") from None
    return str.__str__(text)


def lane_kind(kind: Any) -> WorkerKind:
    """The lane a task asks for; a task of a lane that no worker has would wait for ever."""
    if (why := why_no_lane(kind)) is not None:
        raise InvalidTask(f"worker={kind!r} is {why}")
    return cast(WorkerKind, kind)


def why_no_lane(kind: Any) -> str | None:
    """What is wrong with a kind of worker, to follow an `is`; None: nothing."""
    if kind in LANES:
        return None
    if kind in get_args(WorkerKind):
        return f"not there yet: use {' or '.join(map(repr, reversed(LANES)))}"
    return f"no kind of worker{did_you_mean(kind, LANES) if isinstance(kind, str) else ''}"


def plain_metadata(given: Any) -> dict[str, Any] | None:
    """What the task carries along, as a worker will read it."""
    if given is None:
        return None
    try:
        if isinstance(given, dict):
            return _PLAIN_DICT.decode(_encode(given))
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        pass
    raise InvalidTask(f"metadata={given!r:.200}: a dict of plain values with text as keys")


def retries(value: Any) -> int:
    """How often a failed task is tried again."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidTask(f"retries={value!r}: write 0 for no retry, or more")
    return int(value)


def sound_policy(given: RetryPolicy) -> RetryPolicy:
    """A retry policy that can be reckoned with."""
    policy: Any = given
    for what, value, bound in (("factor", policy.factor, 1000), ("jitter", policy.jitter, 10)):
        if not isinstance(value, int | float) or not 0 <= value <= bound:
            raise InvalidTask(f"{what}={value!r}: a number from 0 to {bound}")
    return msgspec.structs.replace(
        given,
        retries=retries(policy.retries),
        delay=seconds(policy.delay, "retry_delay") or 0.0,
        max_delay=seconds(policy.max_delay, "max_delay") or 0.0,
    )


def queue_name(name: Any) -> str:
    """A queue's name; an Enum's member as the text it is."""
    if not isinstance(name, str):
        raise InvalidTask(f"queue={name!r}: give the name of a queue")
    return check_name(str.__str__(name))


def sound_task(task: Any) -> None:
    """Refuse what is no task, or one put together wrongly by hand."""
    if not isinstance(task, Task):
        raise InvalidTask(f"a Task is needed, not {type(task).__name__}: write Task(func=f, ...)")
    given = cast(Any, task)
    args, kwargs, id = given.args, given.kwargs, given.id
    if not isinstance(args, tuple | list):
        raise InvalidTask(
            f"args must be a tuple, not {type(args).__name__}: for a single argument write "
            "args=(value,)"
        )
    named = isinstance(kwargs, dict | Mapping)  # an abstract class takes long to answer
    if not named or (kwargs and not all(isinstance(name, str) for name in kwargs)):
        raise InvalidTask(f"kwargs={kwargs!r:.100}: a mapping with the names of the arguments")
    if not isinstance(id, str) or not is_task_id(id):
        raise InvalidTask(
            f"id {id!r} is not a uuid7: leave it out, or make one with omniq.ids.uuid7()"
        )
