"""The hub: signals stick, reach other threads and loops, and end with the ear."""

from __future__ import annotations

import asyncio
import threading

import pytest

from omniq.storage.hub import Hub

pytestmark = pytest.mark.asyncio


async def test_a_signal_between_register_and_wait_is_kept() -> None:
    hub = Hub()
    async with hub.ear({"queue:a", "docs:pause"}) as ear:
        hub.signal(["queue:a", "queue:b"])
        hub.signal(["docs:pause"])
        assert await ear.wait(30) == {"queue:a", "docs:pause"}
        assert await ear.wait(0) == set()


async def test_a_waiting_ear_is_woken_from_another_thread() -> None:
    hub = Hub()
    async with hub.ear({"inbox:x"}) as ear:
        waiting = asyncio.create_task(ear.wait())
        await asyncio.sleep(0)
        thread = threading.Thread(target=hub.signal, args=(["inbox:x"],))
        thread.start()
        assert await asyncio.wait_for(waiting, 30) == {"inbox:x"}
        thread.join()


async def test_an_ear_in_another_loop_is_woken() -> None:
    hub, ready, heard = Hub(), threading.Event(), []

    async def listen() -> None:
        async with hub.ear({"owner:w"}) as ear:
            ready.set()
            heard.append(await ear.wait(30))

    thread = threading.Thread(target=lambda: asyncio.run(listen()))
    thread.start()
    await asyncio.to_thread(ready.wait, 30)
    hub.signal(["owner:w"])
    await asyncio.to_thread(thread.join, 30)
    assert heard == [{"owner:w"}]


async def test_many_signallers_lose_nothing() -> None:
    hub, topics = Hub(), [f"inbox:{n}" for n in range(400)]
    async with hub.ear(topics) as ear:
        threads = [
            threading.Thread(target=lambda part: [*map(hub.signal, part)], args=(part,))
            for part in ([[topic] for topic in topics[i::4]] for i in range(4))
        ]
        for thread in threads:
            thread.start()
        missing = set(topics)
        while missing:
            got = await ear.wait(30)
            assert got, f"{len(missing)} signals never came"
            missing -= got
        for thread in threads:
            thread.join()


async def test_topics_can_be_added_and_dropped() -> None:
    hub = Hub()
    async with hub.ear(()) as ear:
        hub.signal(["a"])
        ear.add("a")
        assert await ear.wait(0) == set()
        hub.signal(["a"])
        ear.discard("a")
        hub.signal(["a"])
        assert await ear.wait(0) == set()


async def test_an_ear_left_behind_hears_nothing_and_is_forgotten() -> None:
    hub = Hub()
    async with hub.ear({"a"}) as ear:
        pass
    hub.signal(["a"])
    assert await ear.wait(0) == set()
    assert not hub._ears


async def test_an_ear_of_a_closed_loop_is_dropped() -> None:
    hub = Hub()

    async def forget() -> None:
        hub.ear({"a"})

    await asyncio.to_thread(lambda: asyncio.run(forget()))
    assert hub._ears
    hub.signal(["a"])
    assert not hub._ears
