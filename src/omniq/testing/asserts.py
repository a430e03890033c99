"""Looking at what was enqueued, with messages that show what was enqueued instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from omniq._records import Enqueued
from omniq._wanted import Func, Wanted, expect, expect_none, of
from omniq.core import AsyncOmniQ
from omniq.sync import OmniQ
from omniq.testing.modes import noted


def enqueued(queue: AsyncOmniQ | OmniQ, func: Func | None = None) -> list[Enqueued]:
    """What was enqueued so far, or of it the tasks of one function, in order.

    `func` is the function, or the name workers know it by.
    """
    return of(noted(queue), func)


def assert_enqueued(
    queue: AsyncOmniQ | OmniQ,
    func: Func | None = None,
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
    return expect(noted(queue), func, args, kwargs, times=times, **wanted)


def assert_nothing_enqueued(queue: AsyncOmniQ | OmniQ, func: Func | None = None) -> None:
    """Fail if something was enqueued, or a task of this function."""
    expect_none(noted(queue), func)
