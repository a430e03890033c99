"""The dashboard as a person has it: in a real browser, over a real server and queue."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from omniq import AsyncOmniQ
from omniq.dashboard import DashboardApp
from omniq.models.status import Status
from tests.dashboard.chromium import Tab, launched, opened, pressed
from tests.dashboard.kit import TOKEN, a_queue, served, until
from tests.dashboard.shop import add, echo, fail, hold
from tests.programs import free_port

pytestmark = [
    pytest.mark.browser,
    pytest.mark.once,
    pytest.mark.asyncio(loop_scope="module"),
]
NASTY = [
    "<script>window.hit=1</script>",
    '"><img src=x onerror=window.hit=1>',
    "</pre></code><svg onload=window.hit=1>",
    "'});window.hit=1;@post('",
    "javascript:window.hit=1",
]


class Site(NamedTuple):
    address: str
    queue: AsyncOmniQ
    app: DashboardApp

    async def visit(self, tab: Tab, path: str = "/") -> Page:
        """Sign in and go to a page of it."""
        await tab.page.goto(f"{self.address}/?token={TOKEN}")
        await tab.page.goto(self.address + path)
        return tab.page


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with launched() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with a_queue(tmp_path) as queue:
        app = DashboardApp(queue)
        async with served(app) as address:
            yield Site(address, queue, app)


async def live(page: Page) -> None:
    await expect(page.locator("#connection .word")).to_have_text("Live")


async def test_counts_change_without_a_reload(site: Site, chromium: Browser) -> None:
    async with opened(chromium) as tab:
        page = await site.visit(tab)
        await live(page)
        await page.evaluate("window.same = true")
        await expect(page.locator("#advice")).to_contain_text("No task yet")
        for number in range(3):
            await site.queue.get_result(await site.queue.enqueue(add, (number, 1)), timeout=60)
        await until(site.queue, await site.queue.enqueue(fail, ("no",)), Status.FAILED)
        await expect(page.locator("#tile-succeeded strong")).to_have_text("3")
        await expect(page.locator("#tile-failed strong")).to_have_text("1")
        await expect(page.locator("#recent")).to_contain_text("shop:add")
        await expect(page.locator("#workers-now")).to_contain_text("Alive")
        assert await page.evaluate("window.same")


async def test_retry_works_and_says_so(site: Site, chromium: Browser) -> None:
    task_id = await site.queue.enqueue(fail, ("no",))
    await until(site.queue, task_id, Status.FAILED)
    async with opened(chromium) as tab:
        page = await site.visit(tab, f"/tasks/{task_id}")
        await live(page)
        await page.evaluate("window.same = true")
        await pressed(page, "Retry", "will run again")
        await expect(page.locator("#life")).to_contain_text("Retried by token")
        assert await page.evaluate("window.same")
    await until(site.queue, task_id, Status.FAILED)  # again
    assert (await site.queue.info(task_id)).row.epoch == 2


async def test_a_running_task_is_watched_and_stopped(site: Site, chromium: Browser) -> None:
    task_id = await site.queue.enqueue(hold)
    async with opened(chromium) as tab:
        page = await site.visit(tab, f"/tasks/{task_id}")
        await expect(page.locator("#task-head progress")).to_have_attribute("value", "3")
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator("#task-head .badge").first).to_have_text("Cancelled")
    await until(site.queue, task_id, Status.CANCELLED)


async def test_deleting_is_asked_twice_and_leads_to_the_list(site: Site, chromium: Browser) -> None:
    task_id = await site.queue.enqueue(fail, ("no",))
    await until(site.queue, task_id, Status.FAILED)
    async with opened(chromium) as tab:
        page = await site.visit(tab, f"/tasks/{task_id}")
        await page.get_by_text("Delete", exact=True).click()
        await page.get_by_role("button", name="Delete it").click()
        await expect(page.locator(".notice")).to_contain_text("were deleted")
        await expect(page).to_have_url(f"{site.address}/tasks")  # the notice leaves the address


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everything_works_without_scripts(site: Site, chromium: Browser, scheme: str) -> None:
    task_id = await site.queue.enqueue(fail, ("no",))
    await until(site.queue, task_id, Status.FAILED)
    async with opened(chromium, scripts=False, color_scheme=scheme) as tab:
        page = tab.page
        await page.goto(site.address)
        assert ["401" in one for one in tab.wrong] == [True], "the browser notes the refusal"
        tab.wrong.clear()
        await page.get_by_label("Token").fill(TOKEN)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator("h1")).to_have_text("Overview")
        await page.locator("#tile-failed").click()
        await expect(page.locator("#list tbody tr")).to_have_count(1)
        await page.locator("#list td.main > a").click()
        await expect(page.locator("#result")).to_contain_text("ValueError")
        await page.get_by_role("button", name="Retry").click()
        await expect(page.locator(".notice")).to_contain_text("will run again")
        await until(site.queue, task_id, Status.FAILED)
        await page.goto(f"{site.address}/tasks")
        await page.get_by_label("Search").fill("nothing has this")
        await page.get_by_role("button", name="Filter").click()
        await expect(page.locator("#list")).to_contain_text("Nothing matches")
        await page.get_by_role("button", name="Dark colours").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.locator("h1")).to_have_text("Sign in")
    assert (await site.queue.info(task_id)).row.epoch == 2


async def test_dark_follows_the_system_and_the_switch(site: Site, chromium: Browser) -> None:
    shade = "getComputedStyle(document.documentElement).backgroundColor"
    async with opened(chromium, color_scheme="dark") as tab:
        page = await site.visit(tab)
        assert await page.evaluate(shade) == "rgb(15, 16, 19)"
        await page.get_by_role("button", name="Light colours").click()
        assert await page.evaluate(shade) == "rgb(246, 246, 248)"
        await page.goto(f"{site.address}/tasks")
        assert await page.evaluate(shade) == "rgb(246, 246, 248)", "it is remembered"


async def test_what_the_reader_does_outlives_updates(site: Site, chromium: Browser) -> None:
    """Focus, selection, half-filled forms, open details and scroll stay through morphs."""
    first = await site.queue.enqueue(add, (1, 2), delay=3600)
    async with opened(chromium, viewport={"width": 900, "height": 300}) as tab:
        page = await site.visit(tab, "/tasks")
        await live(page)
        search = page.get_by_label("Search")
        await page.get_by_text("More filters").click()
        await page.get_by_label("Tag").fill("half")
        await search.fill("filled in")
        await search.evaluate("el => el.setSelectionRange(2, 6)")
        await page.evaluate("window.scrollTo(0, 120)")
        link = await page.locator(f'a[href="/tasks/{first}"]').element_handle()
        made = [await site.queue.enqueue(add, (n, 1), delay=3600) for n in range(5)]
        await expect(page.locator("#list tbody tr")).to_have_count(6)
        await expect(page.locator("#list tbody tr").first).to_have_id(f"t-{made[-1]}")
        assert await page.evaluate("document.activeElement.name") == "q"
        assert await search.evaluate("el => [el.value, el.selectionStart, el.selectionEnd]") == [
            "filled in", 2, 6,
        ]  # fmt: skip
        assert await page.get_by_label("Tag").input_value() == "half"
        assert await page.locator("#more-filters").evaluate("el => el.open")
        assert await page.evaluate("window.scrollY") == 120
        assert link is not None
        assert await link.evaluate("el => el.isConnected"), "rows move, they are not made anew"
        await link.focus()
        await site.queue.cancel(made[0])
        await expect(page.locator(f"#t-{made[0]} .badge")).to_have_text("Cancelled")
        assert await page.evaluate("document.activeElement.href") == await link.evaluate(
            "el => el.href"
        )


async def test_pause_holds_updates_back(site: Site, chromium: Browser) -> None:
    async with opened(chromium) as tab:
        page = await site.visit(tab)
        await live(page)
        await page.keyboard.press("p")
        await expect(page.locator("#connection .word")).to_have_text("Paused")
        async with asyncio.timeout(60):
            while site.app.desk.hub.streams:  # noqa: ASYNC110 - the server notices by itself
                await asyncio.sleep(0.01)
        await site.queue.enqueue(add, (1, 2), delay=3600)
        await expect(page.locator("#tile-scheduled strong")).to_have_text("0")
        await page.get_by_role("button", name="Go on with live updates").click()
        await expect(page.locator("#tile-scheduled strong")).to_have_text("1")
        await live(page)


async def test_the_keyboard_reaches_everything(site: Site, chromium: Browser) -> None:
    async with opened(chromium) as tab:
        page = await site.visit(tab, "/tasks")
        await page.keyboard.press("Tab")
        await expect(page.locator(".skip")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        await page.keyboard.press("/")
        await expect(page.get_by_label("Search")).to_be_focused()


async def test_it_reconnects_after_the_server_was_away(tmp_path: Path, chromium: Browser) -> None:
    port = free_port()
    async with a_queue(tmp_path) as queue, opened(chromium) as tab:
        async with served(DashboardApp(queue), port) as address:
            await tab.page.goto(f"{address}/?token={TOKEN}")
            await live(tab.page)
        await expect(tab.page.locator("#connection .word")).to_have_text("Reconnecting")
        await queue.enqueue(add, (1, 2), delay=3600)
        async with served(DashboardApp(queue), port):
            await expect(tab.page.locator("#tile-scheduled strong")).to_have_text("1")
            await live(tab.page)
        # The browser notes what the network said, which depends on when it asked.
        away = re.compile(r"ERR_(CONNECTION_|EMPTY_RESPONSE|SOCKET_|INCOMPLETE)|status of 503")
        assert all(away.search(one) for one in tab.wrong), tab.wrong
        tab.wrong.clear()


async def test_nothing_leaves_the_host_and_nothing_runs(site: Site, chromium: Browser) -> None:
    """A corpus of attacks in arguments, tags, names of fields, errors and addresses."""
    ids = []
    for text in NASTY:
        ids.append(
            await site.queue.enqueue(
                echo, (text,), {"more": {text: text}}, tags=[text], metadata={text: text}
            )
        )
        ids.append(await site.queue.enqueue(fail, (text,)))
    for task_id in ids:
        await until(site.queue, task_id, Status.SUCCEEDED, Status.FAILED)
    async with opened(chromium) as tab:
        await site.visit(tab)
        pages = ["/", "/tasks", "/queues", "/workers", "/events", "/about"]
        pages += [f"/tasks/{task_id}" for task_id in ids]
        for page in pages:
            await tab.page.goto(site.address + page)
            if page != "/about":
                await live(tab.page)
            assert await tab.page.evaluate("window.hit") is None, page
        for text in NASTY:
            for path in ("/tasks", "/events"):
                url = await tab.page.evaluate(
                    "([path, text]) => path + '?' + new URLSearchParams({q: text, name: text,"
                    " tag: text, queue: text, task: text, worker: text})",
                    [path, text],
                )
                await tab.page.goto(site.address + url)
                await live(tab.page)
                assert await tab.page.evaluate("window.hit") is None, url
        assert len(tab.asked) > 100
        assert all(url.startswith(site.address + "/") for url in tab.asked)


async def test_no_page_is_wider_than_the_window(site: Site, chromium: Browser) -> None:
    long = await site.queue.enqueue(echo, ("x" * 300,), tags=["y" * 60], queue="q" * 60)
    await until(site.queue, long, Status.SUCCEEDED)
    bad = await site.queue.enqueue(fail, ("z" * 300,))
    await until(site.queue, bad, Status.FAILED)
    paths = ["/", "/?as=table", "/tasks", "/queues", "/workers", "/events", "/about"]
    async with opened(chromium) as tab:
        await site.visit(tab)
        for path in [*paths, f"/tasks/{long}", f"/tasks/{bad}"]:
            await tab.page.goto(site.address + path)
            for width in (320, 400, 800, 1280):
                await tab.page.set_viewport_size({"width": width, "height": 700})
                wide = await tab.page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, path
