"""The loop thread behind the blocking face: calls, refusals and interrupts."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from omniq._portal import LoopThread, by_caller
from omniq.errors import StorageClosed, SyncInAsync
from tests.waiting import blocking_until


@pytest.fixture
def portal() -> Iterator[LoopThread]:
    made = LoopThread()
    yield made
    made.close()


class Bell:
    """Rings when a coroutine was cancelled."""

    def __init__(self) -> None:
        self.waiting, self.cancelled = threading.Event(), threading.Event()

    async def wait(self) -> None:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class AsyncDoor:
    """Stands for a queue: opened by use, closed by the portal."""

    def __init__(self, name: str, closed: list[str]) -> None:
        self.name, self.closed = name, closed

    async def knock(self, times: int) -> str:
        return " ".join(["knock"] * times)

    async def __aenter__(self) -> AsyncDoor:
        return self

    async def close(self) -> None:
        self.closed.append(self.name)


async def double(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


async def where() -> tuple[int, int]:
    return threading.get_ident(), id(asyncio.get_running_loop())


def test_nothing_runs_before_the_first_call(portal: LoopThread) -> None:
    assert not portal.running
    assert portal.run(double, 21) == 42
    assert portal.running


def test_every_thread_meets_the_same_loop(portal: LoopThread) -> None:
    seen: list[tuple[int, int]] = []
    threads = [threading.Thread(target=lambda: seen.append(portal.run(where))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1
    assert seen[0][0] != threading.get_ident()


def test_plain_functions_run_on_the_loop_thread(portal: LoopThread) -> None:
    assert portal.call(threading.get_ident) == portal.run(where)[0]


def test_errors_come_out_as_they_are(portal: LoopThread) -> None:
    async def fail(kind: type[BaseException]) -> None:
        raise kind("no")

    for kind in (ValueError, TimeoutError, SystemExit, KeyboardInterrupt):
        with pytest.raises(kind, match="no"):
            portal.run(fail, kind)
    assert portal.run(double, 1) == 2, "and the loop goes on"


def test_a_task_that_exits_does_not_take_the_loop_with_it(portal: LoopThread) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    async def spawn() -> int:
        task = asyncio.get_running_loop().create_task(leave())
        await asyncio.wait([task])
        error = task.exception()
        assert isinstance(error, SystemExit)
        return int(error.code or 0)

    assert portal.run(spawn) == 3
    assert portal.run(double, 1) == 2


def test_context_variables_reach_the_coroutine(portal: LoopThread) -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request")
    request.set("r-1")

    async def read() -> str:
        return request.get()

    assert portal.run(read) == "r-1"


def test_a_call_at_the_desk_may_use_a_loop_of_its_own(portal: LoopThread) -> None:
    """What it submits there is no call of the thread that waits, which is busy with it."""
    portal.desks = 1
    outer, inner = threading.get_ident(), []

    async def at_the_desk() -> int:
        return await by_caller(threading.get_ident)

    async def elsewhere() -> int:
        return await asyncio.wait_for(asyncio.wrap_future(portal.submit(at_the_desk)), 20)

    def plain() -> int:
        inner.append(asyncio.run(elsewhere()))
        return threading.get_ident()

    async def call() -> int:
        return await by_caller(plain)

    assert portal.run(call) == outer
    assert inner[0] != outer


def test_a_call_left_at_the_desk_is_made(portal: LoopThread) -> None:
    """Something started on the side has asked for it just before the answer came."""
    portal.desks = 1
    left: list[asyncio.Task[int]] = []

    async def leave() -> None:
        left.append(asyncio.create_task(by_caller(threading.get_ident)))
        await asyncio.sleep(0)  # now the call lies on the desk, and the answer follows at once
        threading.Event().wait(0)

    async def ended() -> int:
        return await asyncio.wait_for(left[-1], 20)

    for _ in range(50):  # the answer has to be there before the waiter looks up
        portal.run(leave)
        assert portal.run(ended) == threading.get_ident()


def test_a_timeout_cancels_the_coroutine(portal: LoopThread) -> None:
    portal.run(double, 1)
    for seconds in (0.01, 0.1, 1, 10):
        bell = Bell()
        with pytest.raises(TimeoutError):
            portal.run(bell.wait, timeout=seconds)
        if bell.waiting.is_set():
            break  # else it had not even begun, and there was nothing to cancel
    assert bell.cancelled.wait(20)


def test_an_interrupt_cancels_the_coroutine(portal: LoopThread) -> None:
    bell = Bell()

    def interrupt() -> None:
        bell.waiting.wait(20)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        portal.run(bell.wait)
    assert bell.cancelled.wait(20)


@pytest.mark.parametrize("sent", [True, False], ids=["under way", "not sent yet"])
def test_an_interrupt_while_a_call_is_sent_leaves_nothing_running(
    portal: LoopThread, monkeypatch: pytest.MonkeyPatch, sent: bool
) -> None:
    portal.run(double, 1)
    loop, bell = portal._loop, Bell()
    assert loop is not None
    send = loop.call_soon_threadsafe

    def interrupted(*args: Any, **options: Any) -> None:
        monkeypatch.setattr(loop, "call_soon_threadsafe", send)
        if sent:
            send(*args, **options)
            bell.waiting.wait(20)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "call_soon_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        portal.run(bell.wait)
    assert (bell.waiting.is_set(), bell.cancelled.is_set()) == (sent, sent)
    assert portal.run(double, 2) == 4


def test_an_interrupt_before_the_first_step_of_a_call_ends_the_wait(
    portal: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop is busy: it starts and cancels the call in one go."""
    portal.run(double, 1)
    loop, bell, busy = portal._loop, Bell(), threading.Event()
    assert loop is not None
    loop.call_soon_threadsafe(busy.wait, 60)
    send, sent = loop.call_soon_threadsafe, []

    def interrupted(*args: Any, **options: Any) -> None:
        send(*args, **options)
        sent.append(args)
        if len(sent) == 1:
            raise KeyboardInterrupt
        busy.set()

    monkeypatch.setattr(loop, "call_soon_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        portal.run(bell.wait)
    assert len(sent) == 2
    assert not bell.waiting.is_set()


@pytest.mark.asyncio
async def test_inside_a_loop_it_says_what_to_write(portal: LoopThread) -> None:
    door = AsyncDoor("front", [])
    with pytest.raises(SyncInAsync, match=r"`Door\.knock\(\)`.*AsyncDoor.*`await \.+knock\("):
        portal.run(door.knock, 1)
    with pytest.raises(SyncInAsync, match=r"`async with AsyncDoor\(\.\.\.\)`"):
        portal.run(door.__aenter__)
    with pytest.raises(SyncInAsync, match="count"):
        portal.iterate(count(3, []))
    assert not portal.running
    assert await asyncio.to_thread(portal.run, door.knock, 2) == "knock knock"


async def count(n: int, closed: list[bool]) -> AsyncIterator[int]:
    try:
        for i in range(n):
            yield i
    finally:
        await asyncio.sleep(0)
        closed.append(True)


def test_async_iterators_are_pulled(portal: LoopThread) -> None:
    closed: list[bool] = []
    assert list(portal.iterate(count(3, closed))) == [0, 1, 2]
    assert closed == [True]


def test_leaving_an_iterator_early_closes_it(portal: LoopThread) -> None:
    closed: list[bool] = []
    for i in portal.iterate(count(10**9, closed)):
        if i == 2:
            break
    assert closed == [True]


def test_close_closes_the_newest_first_and_cancels_the_rest(portal: LoopThread) -> None:
    closed: list[str] = []
    bell = Bell()

    async def start() -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(bell.wait())

    task = portal.run(start)
    doors = [AsyncDoor(name, closed) for name in ("first", "second", "third")]
    for door in doors:
        portal.keep(door, door.close)
    portal.release(doors[1])
    portal.close()
    assert closed == ["third", "first"]
    assert task.cancelled()
    assert not portal.running
    portal.close()  # again: no effect
    assert portal.run(double, 2) == 4, "a later call starts afresh"


def test_an_owner_that_fails_or_hangs_does_not_stop_the_others(portal: LoopThread) -> None:
    closed: list[str] = []

    class Broken(AsyncDoor):
        async def close(self) -> None:
            raise ConnectionError("gone")

    class Stuck(AsyncDoor):
        async def close(self) -> None:
            self.closed.append("stuck")
            await asyncio.Event().wait()

    portal.run(double, 1)
    for door in (Stuck("s", closed), AsyncDoor("good", closed), Broken("b", closed)):
        portal.keep(door, door.close)
    portal.close(timeout=0.2)
    blocking_until(lambda: len(closed) == 2)  # it does not wait for ever for a slow loop
    assert closed == ["good", "stuck"]


def test_after_the_end_a_call_is_refused() -> None:
    portal = LoopThread()
    portal.run(double, 1)
    portal.close_at_exit()
    with pytest.raises(StorageClosed, match="process is ending"):
        portal.run(double, 1)


def test_close_while_others_call_answers_everybody(portal: LoopThread) -> None:
    """A call is answered, told of the close, or starts the next loop; none is left waiting."""
    answers: list[int] = []

    def call() -> None:
        for _ in range(50):
            try:
                answers.append(portal.run(double, 1))
            except StorageClosed:
                answers.append(0)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        portal.close()
    assert len(answers) == 200
    assert 2 in answers
