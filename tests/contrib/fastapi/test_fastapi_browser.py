"""The dashboard in a real browser, below a root path: with and without a proxy that strips it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import NamedTuple

import pytest
import pytest_asyncio
from fastapi import FastAPI
from fastapi.exceptions import FastAPIDeprecationWarning
from playwright.async_api import Browser, expect

from omniq import AsyncOmniQ, Status
from omniq.contrib.fastapi import OmniQExtension
from tests.dashboard.chromium import launched, opened, pressed
from tests.dashboard.kit import TOKEN, served, until
from tests.dashboard.shop import fail, hold

pytestmark = [
    pytest.mark.browser,
    pytest.mark.once,
    pytest.mark.asyncio(loop_scope="module"),
]
PREFIX = "/api"


class Site(NamedTuple):
    """The server as the browser finds it, and where the dashboard is on it."""

    address: str
    path: str
    queue: AsyncOmniQ

    @property
    def home(self) -> str:
        return self.address + self.path


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with launched() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["whole", "stripped"])
async def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    """A dashboard in an app that knows it is below `/api`.

    Where nothing is stripped it is two mounts down; where it is, one: Starlette itself finds
    no route of an app that is mounted below a stripped root path.
    """
    base = tmp_path_factory.mktemp(request.param)
    omniq = OmniQExtension(base_dir=base / ".omniq", dashboard_token=TOKEN, announce=False)
    with pytest.warns(FastAPIDeprecationWarning, match="root_path"):
        app = FastAPI(root_path=PREFIX, lifespan=omniq.lifespan)
    place = "/ops/tasks" if request.param == "whole" else "/ops"
    if request.param == "whole":
        inner = FastAPI()
        inner.mount("/tasks", omniq.dashboard())
        app.mount("/ops", inner)
    else:
        app.mount("/ops", omniq.dashboard())
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        address = await stack.enter_async_context(served(app, close=omniq.close_streams))
        if request.param == "stripped":
            address = await stack.enter_async_context(stripping_proxy(PREFIX, address))
        yield Site(address, PREFIX + place, omniq.queue)


@asynccontextmanager
async def stripping_proxy(prefix: str, server: str) -> AsyncIterator[str]:
    """A proxy that takes `prefix` off every path: one request per connection."""
    host, _, port = server.removeprefix("http://").partition(":")

    async def pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()

    async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, path, rest = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)
        if not path.startswith(prefix.encode()):
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        rest = rest.replace(b"Connection: keep-alive\r\n", b"Connection: close\r\n", 1)
        inward, outward = await asyncio.open_connection(host, int(port))
        outward.write(b" ".join([method, path.removeprefix(prefix.encode()), rest]))
        ways = [
            asyncio.create_task(pipe(reader, outward)),
            asyncio.create_task(pipe(inward, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            await closed(outward)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(task := asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await exchange(reader, writer)
        await closed(writer)
        serving.discard(task)

    serving = set[asyncio.Task[None] | None]()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as outside:
        yield f"http://127.0.0.1:{outside.sockets[0].getsockname()[1]}"
        left = [task for task in serving if task is not None]
        for task in left:
            task.cancel()
        await asyncio.gather(*left)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_pages_live_updates_and_actions(site: Site, chromium: Browser) -> None:
    async with opened(chromium) as tab:
        page = tab.page
        await page.goto(f"{site.home}/?token={TOKEN}")
        assert page.url == f"{site.home}/", "signing in leads back to where the browser was"
        await expect(page.locator("#connection .word")).to_have_text("Live")
        await page.evaluate("window.same = true")
        failed = await site.queue.enqueue(fail, ("no",))
        await expect(page.locator("#tile-failed strong")).not_to_have_text("0")
        assert await page.evaluate("window.same"), "it came by itself"

        links = await page.locator("a[href]").evaluate_all("all => all.map(a => a.href)")
        assert {link for link in links if not link.startswith(site.home)} == set()
        for name in ("Tasks", "Queues", "Workers", "Events", "About"):
            await page.get_by_role("navigation").get_by_role("link", name=name).click()
            await expect(page.locator("h1")).to_have_text(name)

        await page.goto(f"{site.home}/tasks/{failed}")
        await expect(page.locator("#connection .word")).to_have_text("Live")
        await pressed(page, "Retry", "will run again")
        running = await site.queue.enqueue(hold)
        await page.goto(f"{site.home}/tasks/{running}")
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator("#task-head .badge").first).to_have_text("Cancelled")
        assert {url for url in tab.asked if not url.startswith(site.home)} == set()
    await until(site.queue, failed, Status.FAILED)  # again
    assert (await site.queue.info(failed)).row.epoch == 2
    await until(site.queue, running, Status.CANCELLED)


async def test_a_form_without_its_token_is_refused(site: Site, chromium: Browser) -> None:
    failed = await site.queue.enqueue(fail, ("no",))
    await until(site.queue, failed, Status.FAILED)
    async with opened(chromium, scripts=False) as tab:
        page = tab.page
        await page.goto(f"{site.home}/?token={TOKEN}")
        await page.goto(f"{site.home}/tasks/{failed}")
        form = page.locator("form", has=page.get_by_role("button", name="Retry"))
        action = await form.get_attribute("action")
        assert action is not None
        url = site.address + action
        refused = await page.request.post(url, form={}, headers={"sec-fetch-site": "same-origin"})
        assert refused.status == 403
        stranger = await page.request.post(url, form={}, headers={"origin": "http://other.test"})
        assert stranger.status == 403
        assert (await site.queue.info(failed)).row.epoch == 1, "it did nothing"
        await page.get_by_role("button", name="Retry").click()
        await expect(page.locator(".notice")).to_contain_text("will run again")
    await until(site.queue, failed, Status.FAILED)  # again
    assert (await site.queue.info(failed)).row.epoch == 2
