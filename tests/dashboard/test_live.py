"""Live pages: one stream each, few questions to the storage, an end when the app ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from datastar_py.consts import EventType as Wire
from htpy import div

from omniq import AsyncOmniQ
from omniq.dashboard import DashboardApp, live
from omniq.models.status import Status
from tests.dashboard.kit import served, sign_in, until
from tests.dashboard.shop import add
from tests.programs import PATIENCE

pytestmark = pytest.mark.asyncio


async def chunks(address: str, path: str, cookies: Any) -> AsyncIterator[str]:
    """The events of a stream as they come."""
    async with (
        httpx.AsyncClient(base_url=address, cookies=cookies, timeout=PATIENCE) as visitor,
        visitor.stream("GET", path) as answer,
    ):
        assert answer.status_code == 200, answer.status_code
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = ""
        async for part in answer.aiter_text():
            text += part
            while "\n\n" in text:
                event, text = text.split("\n\n", 1)
                yield event


async def signed_in(address: str) -> Any:
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE) as visitor:
        await sign_in(visitor)
        return dict(visitor.cookies)


async def test_the_names_on_the_wire_are_those_the_module_speaks() -> None:
    from omniq.dashboard.assets import ASSETS

    module = ASSETS["live.js"][0].decode()
    assert Wire.PATCH_ELEMENTS == "datastar-patch-elements"
    assert Wire.PATCH_SIGNALS == "datastar-patch-signals"
    assert f"'{Wire.PATCH_ELEMENTS}'" in module
    assert f"'{Wire.PATCH_SIGNALS}'" in module


@pytest.mark.parametrize("page", ["/", "/tasks", "/queues", "/workers", "/events"])
async def test_a_stream_sends_every_region_of_its_page(
    browser: httpx.AsyncClient, page: str
) -> None:
    answer = await browser.get(page, params={"live": "1", "once": "1"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.strip().split("\n\n")
    html = (await browser.get(page)).text
    for event in events:
        first, second = event.split("\n")[:2]
        assert first == "event: datastar-patch-elements"
        region = second.removeprefix("data: elements ").partition('id="')[2].partition('"')[0]
        assert f'id="{region}"' in html
    assert 'data-init="@get(' in html


async def test_a_change_is_sent_though_the_answer_before_it_is_cached(
    app: DashboardApp, queue: AsyncOmniQ
) -> None:
    async with served(app) as address:
        stream = chunks(address, "/queues?live=1", await signed_in(address))
        assert "No queue yet" in await anext(stream)
        task_id = await queue.enqueue(add, (1, 2), queue="fresh", delay=3600)
        async with asyncio.timeout(60):
            while "fresh" not in await anext(stream):
                pass
        await queue.cancel(task_id)
        async with asyncio.timeout(60):
            while "status=cancelled" not in await anext(stream):
                pass
        await stream.aclose()


async def test_many_viewers_ask_the_storage_once(
    app: DashboardApp, queue: AsyncOmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    counts = queue.counts

    async def counted() -> Any:
        nonlocal asked
        asked += 1
        return await counts()

    monkeypatch.setattr(queue, "counts", counted)
    monkeypatch.setattr("omniq.dashboard.reads.FRESH", 60.0)
    async with served(app) as address:
        cookies = await signed_in(address)
        streams = [chunks(address, "/queues?live=1", cookies) for _ in range(20)]
        await asyncio.gather(*(anext(stream) for stream in streams))
        assert app.desk.hub.streams == 20
        assert asked == 1
        for stream in streams:
            await stream.aclose()
        async with asyncio.timeout(60):
            while app.desk.hub.streams:  # noqa: ASYNC110 - servers notice by themselves
                await asyncio.sleep(0.01)


async def test_streams_are_counted_and_bounded(
    app: DashboardApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "STREAMS", 1)
    async with served(app) as address:
        cookies = await signed_in(address)
        stream = chunks(address, "/?live=1", cookies)
        await anext(stream)
        client = httpx.AsyncClient(base_url=address, cookies=cookies, timeout=PATIENCE)
        async with client as visitor:
            refused = await visitor.get("/?live=1")
            assert refused.status_code == 503
            assert "retry-after" in refused.headers
            assert (await visitor.get("/")).status_code == 200
        await stream.aclose()


async def test_a_stream_has_a_bounded_life(
    browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LIFE", 0.2)
    async with asyncio.timeout(60):
        answer = await browser.get("/queues?live=1")
    assert "No queue yet" in answer.text


async def test_closing_ends_open_streams_and_refuses_new_ones(app: DashboardApp) -> None:
    async with served(app) as address:
        cookies = await signed_in(address)
        stream = chunks(address, "/queues?live=1", cookies)
        await anext(stream)
        app.close_streams()
        async with asyncio.timeout(60):
            assert [event async for event in stream] == []
        client = httpx.AsyncClient(base_url=address, cookies=cookies, timeout=PATIENCE)
        async with client as visitor:
            assert (await visitor.get("/queues?live=1")).status_code == 503


async def test_updates_are_paced(queue: AsyncOmniQ, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy queue signals without end; a viewer is woken a few times a second at most."""
    hub = live.Hub(lambda: queue)
    loop = asyncio.get_running_loop()
    wake, woken, renders = hub._wake, list[float](), 0

    def counted() -> None:
        woken.append(loop.time())
        wake()

    async def regions() -> list[Any]:
        nonlocal renders
        renders += 1
        return [div("#r")[str(renders)]]

    async def look() -> None:
        async for _ in stream:
            assert renders <= 1 + len(woken), "drawn only when woken"

    monkeypatch.setattr(hub, "_wake", counted)
    stream: Any = hub.stream(regions)
    viewer = asyncio.create_task(look())
    async with asyncio.timeout(60):
        while renders < 3:
            await queue.enqueue(add, (renders, 1), delay=3600)
    viewer.cancel()
    await asyncio.wait([viewer])
    assert viewer.cancelled()
    await stream.aclose()
    assert all(later - earlier >= live.PACE - 0.01 for earlier, later in pairwise(woken))
    assert hub.streams == 0


async def test_a_storage_that_fails_ends_a_stream_quietly(
    app: DashboardApp,
    queue: AsyncOmniQ,
    browser: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from omniq.errors import StorageUnavailable

    async def down() -> None:
        raise StorageUnavailable("away")

    monkeypatch.setattr(queue, "counts", down)
    answer = await browser.get("/queues?live=1")
    assert answer.status_code == 200
    assert answer.text == ""
    assert app.desk.hub.streams == 0


async def test_an_action_is_seen_at_once(queue: AsyncOmniQ, browser: httpx.AsyncClient) -> None:
    from tests.dashboard.kit import post

    task_id = await queue.enqueue(add, (1, 2), delay=3600)
    assert "Scheduled" in (await browser.get(f"/tasks/{task_id}")).text
    await post(browser, f"/tasks/{task_id}/cancel", page=f"/tasks/{task_id}")
    assert "It was cancelled" in (await browser.get(f"/tasks/{task_id}")).text
    await until(queue, task_id, Status.CANCELLED)


async def test_many_viewers_are_drawn_for_once(
    queue: AsyncOmniQ, browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from omniq.dashboard.pages import tasks

    drawn = 0
    row = tasks._row

    def counted(*given: Any) -> Any:
        nonlocal drawn
        drawn += 1
        return row(*given)

    monkeypatch.setattr(tasks, "_row", counted)
    monkeypatch.setattr("omniq.dashboard.reads.FRESH", 60.0)
    for number in range(3):
        await queue.enqueue(add, (number, 1), delay=3600)
    answers = [await browser.get("/tasks") for _ in range(5)]
    assert drawn == 3
    assert all(answer.text.count("<tr id=") == 3 for answer in answers)
    assert (await browser.get("/tasks?queue=none")).text.count("<tr id=") == 0


async def test_a_page_rests_after_drawing(queue: AsyncOmniQ) -> None:
    """Whatever drawing costs, most of the loop's time is left to the app it lives in."""
    hub = live.Hub(lambda: queue)
    loop = asyncio.get_running_loop()
    began: list[float] = []

    async def slow() -> list[Any]:
        began.append(loop.time())
        await asyncio.sleep(0.05)
        return [div("#r")[str(len(began))]]

    stream: Any = hub.stream(slow)
    await anext(stream)
    await queue.enqueue(add, (1, 2), delay=3600)
    async with asyncio.timeout(60):
        await anext(stream)
    await stream.aclose()
    assert began[1] - began[0] >= 0.05 * (1 + live.REST)
