"""Fixtures for pytest, there as soon as OmniQ is installed. They start nothing by themselves.

Every pytest run of an environment loads this module, so all of OmniQ is imported by whoever
asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from omniq._records import Enqueued
    from omniq.clock import ManualClock
    from omniq.core import AsyncOmniQ
    from omniq.sync import OmniQ

Q = TypeVar("Q")

_LISTS = pytest.StashKey[list["list[Enqueued]"]]()


@pytest.fixture
def omniq_clock() -> ManualClock:
    """A clock that moves only when told to; a test that asks for it has its queues follow it."""
    from omniq.clock import ManualClock

    return ManualClock()


@pytest.fixture
def omniq_queue(request: pytest.FixtureRequest) -> Iterator[AsyncOmniQ]:
    """An AsyncOmniQ of this test alone, in memory. It opens in the loop it is first used in.

    It notes what is enqueued and runs nothing by itself: waiting for a result or `drain` runs
    what is ready, `worker_running` starts a real worker.
    """
    from omniq.testing.fixtures import TestQueue

    queue = TestQueue(**_options(request))
    with _collected(request, queue):
        yield queue
    queue.close_anywhere()


@pytest.fixture
def omniq_blocking_queue(request: pytest.FixtureRequest, omniq_portal: None) -> Iterator[OmniQ]:
    """The blocking twin of `omniq_queue`."""
    from omniq.sync import OmniQ

    with OmniQ(**_options(request)) as queue, _collected(request, queue):
        yield queue


@pytest.fixture
def omniq_eager(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """`omniq_eager(queue)` runs a queue's tasks as they are enqueued, until the test ends.

    It takes any queue, also an app's before it starts, and gives it back. `raise_errors=True`
    raises what a task raises.
    """
    from omniq.testing.modes import eager

    with ExitStack() as stack:

        def make_eager(queue: Q, *, raise_errors: bool = False) -> Q:
            mode: AbstractContextManager[list[Enqueued]]
            mode = eager(queue, raise_errors=raise_errors)  # type: ignore[arg-type]  # it says so
            _shown(request).append(stack.enter_context(mode))
            return queue

        yield make_eager


@pytest.fixture(scope="session")
def omniq_portal() -> Iterator[None]:
    """Ends the thread of the blocking queues when the session ends."""
    yield
    from omniq._portal import portal

    portal.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what was enqueued beside the failure of a test that took one of the fixtures."""
    report = yield
    if report.failed and call.when == "call" and _LISTS in item.stash:
        tasks = {task.id: task for tasks in item.stash[_LISTS] for task in tasks}
        if tasks:
            text = "\n".join(f"{n}. {task}" for n, task in enumerate(tasks.values(), 1))
            report.sections.append(("enqueued with OmniQ", text))
    return report


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    options: dict[str, Any] = {"storage_type": "memory"}
    if "omniq_clock" in request.fixturenames:
        options["clock"] = request.getfixturevalue("omniq_clock")
    return options


def _collected(
    request: pytest.FixtureRequest, queue: AsyncOmniQ | OmniQ
) -> AbstractContextManager[Any]:
    from omniq.testing.modes import collecting

    stack = ExitStack()
    _shown(request).append(stack.enter_context(collecting(queue)))
    return stack


def _shown(request: pytest.FixtureRequest) -> list[list[Enqueued]]:
    lists: list[list[Enqueued]] = request.node.stash.setdefault(_LISTS, [])
    return lists
