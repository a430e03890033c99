"""Pages that ask again now and then, where a stream would be held back or is not wanted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from omniq import AsyncOmniQ
from omniq.dashboard import DashboardApp, Principal
from omniq.dashboard.mount import FIELDS, PREFIX, PRINCIPAL, SHORT
from omniq.errors import StorageUnavailable
from omniq.models.status import Status
from tests.dashboard.chromium import launched, opened
from tests.dashboard.kit import SAME, TOKEN, a_queue, client, form_token, served, sign_in, until
from tests.dashboard.shop import add, fail


def hosted(app: DashboardApp, **said: Any) -> Any:
    """A host that tells the dashboard what it knows, as Django's bridge does."""

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, PREFIX: "", **said}, receive, send)

    return asgi


def by_host(request: Any) -> Any:
    return request.scope.get(PRINCIPAL)


@pytest.mark.asyncio
@pytest.mark.parametrize("by", ["setting", "host"])
async def test_an_update_is_a_short_answer(tmp_path: Path, by: str) -> None:
    async with a_queue(tmp_path, live="poll" if by == "setting" else "stream") as queue:
        app = DashboardApp(queue)
        async with client(app if by == "setting" else hosted(app, **{SHORT: True})) as visitor:
            await sign_in(visitor)
            page = (await visitor.get("/tasks")).text
            assert 'data-every="3000"' in page
            await queue.enqueue(add, (1, 2), delay=3600)
            update = await visitor.get("/tasks?live=1")
            assert update.headers["content-type"].startswith("text/event-stream")
            assert "content-length" in update.headers, "it is whole, not a stream"
            assert update.headers["cache-control"] == "no-store"
            assert update.text.count("event: datastar-patch-elements") == 4
            assert app.desk.hub.streams == 0


@pytest.mark.asyncio
async def test_updates_can_be_off(tmp_path: Path) -> None:
    async with a_queue(tmp_path, live="off") as queue, client(DashboardApp(queue)) as visitor:
        await sign_in(visitor)
        page = (await visitor.get("/tasks")).text
        assert 'id="live"' not in page
        assert "http-equiv" not in page
        assert (await visitor.get("/tasks?live=1")).status_code == 200


@pytest.mark.asyncio
async def test_an_update_that_fails_is_told_by_its_status(
    queue: AsyncOmniQ, app: DashboardApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by a toast: there would be one more every three seconds."""
    module = {"datastar-request": "true"}
    async with client(hosted(app, **{SHORT: True})) as visitor:
        await sign_in(visitor)
        assert (await visitor.get("/nowhere?live=1", headers=module)).status_code == 404

        async def down() -> None:
            raise StorageUnavailable("away")

        monkeypatch.setattr(queue, "counts", down)
        answer = await visitor.get("/queues?live=1", headers=module)
        assert answer.status_code == 503
        assert "toast" not in answer.text


@pytest.mark.asyncio
async def test_a_task_that_was_deleted_says_so_on_its_open_page(
    queue: AsyncOmniQ, browser: httpx.AsyncClient
) -> None:
    task_id = await queue.enqueue(fail, ("no",))
    await until(queue, task_id, Status.FAILED)
    assert await queue.delete(task_id)
    answer = await browser.get(f"/tasks/{task_id}?live=1&once=1")
    assert answer.status_code == 200
    assert "does not exist any more" in answer.text
    assert 'id="task-strip"' in answer.text


@pytest.mark.asyncio
async def test_single_actions_can_be_forbidden(queue: AsyncOmniQ) -> None:
    task_id = await queue.enqueue(fail, ("no",))
    await until(queue, task_id, Status.FAILED)
    who = Principal("eve", forbidden=frozenset({"delete"}))
    app = hosted(DashboardApp(queue, auth=by_host), **{PRINCIPAL: who})
    async with client(app) as visitor:
        page = (await visitor.get(f"/tasks/{task_id}")).text
        assert f"/tasks/{task_id}/retry" in page
        assert f"/tasks/{task_id}/delete" not in page
        form = {"_token": form_token(page)}
        answer = await visitor.post(f"/tasks/{task_id}/delete", data=form, headers=SAME)
        assert answer.status_code == 403
        assert "not allowed to delete" in answer.text
        answer = await visitor.post(f"/tasks/{task_id}/retry", data=form, headers=SAME)
        assert answer.status_code == 303
    await until(queue, task_id, Status.FAILED)


@pytest.mark.asyncio
async def test_every_form_carries_what_the_host_asks_for(queue: AsyncOmniQ) -> None:
    task_id = await queue.enqueue(add, (1, 2), delay=3600)
    said = {PRINCIPAL: Principal("ada"), FIELDS: (("theirs", '"quoted"'),)}
    async with client(hosted(DashboardApp(queue, auth=by_host), **said)) as visitor:
        page = (await visitor.get(f"/tasks/{task_id}")).text
    forms = page.count('method="post"')
    assert forms >= 3
    assert page.count('name="_token"') == forms
    assert page.count('name="theirs" value="&#34;quoted&#34;"') == forms


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with launched() as browser:
        yield browser


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="module")
async def test_a_page_without_a_stream_keeps_up(
    tmp_path: Path, chromium: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omniq.dashboard.visit.POLL", 0.1)
    async with a_queue(tmp_path, live="poll") as queue:
        app = DashboardApp(queue)
        async with served(app) as address, opened(chromium) as tab:
            page = tab.page
            word = page.locator("#connection .word")
            await page.goto(f"{address}/?token={TOKEN}")
            await expect(word).to_have_text("Live")
            await queue.enqueue(add, (1, 2), delay=3600)
            await expect(page.locator("#tile-scheduled strong")).to_have_text("1")

            await page.keyboard.press("p")
            await expect(word).to_have_text("Paused")
            await page.evaluate("new Promise(done => setTimeout(done, 300))")
            asked = len(tab.asked)
            await page.evaluate("new Promise(done => setTimeout(done, 300))")
            assert len(tab.asked) == asked, "nothing is asked while it is paused"
            await page.keyboard.press("p")
            await expect(word).to_have_text("Live")

            async def down() -> None:
                raise StorageUnavailable("away")

            with monkeypatch.context() as away:
                away.setattr(queue, "counts", down)
                await expect(word).to_have_text("Reconnecting")
            await expect(word).to_have_text("Live")
            await queue.enqueue(add, (1, 2), delay=3600)
            await expect(page.locator("#tile-scheduled strong")).to_have_text("2")
            assert all("503" in one for one in tab.wrong), tab.wrong
            tab.wrong.clear()
            assert app.desk.hub.streams == 0


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="module")
async def test_what_somebody_did_is_shown_at_once(
    tmp_path: Path, chromium: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the next turn, which here never comes."""
    monkeypatch.setattr("omniq.dashboard.visit.POLL", 3600.0)
    async with a_queue(tmp_path, live="poll") as queue:
        task_id = await queue.enqueue(add, (1, 2), delay=3600)
        async with served(DashboardApp(queue)) as address, opened(chromium) as tab:
            await tab.page.goto(f"{address}/?token={TOKEN}")
            await tab.page.goto(f"{address}/tasks/{task_id}")
            await expect(tab.page.locator("#connection .word")).to_have_text("Live")
            await tab.page.get_by_role("button", name="Cancel").click()
            await expect(tab.page.locator("#task-head .badge").first).to_have_text("Cancelled")
