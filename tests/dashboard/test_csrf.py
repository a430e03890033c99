"""Every change needs a form of ours; read-only visitors change nothing."""

from __future__ import annotations

import httpx
import pytest
from litestar.routes import HTTPRoute

from omniq import AsyncOmniQ
from omniq.dashboard import DashboardApp, Principal
from omniq.models.filters import EventFilter
from omniq.models.status import EventType, Status
from tests.dashboard.kit import BASE, SAME, TOKEN, client, form_token, post, sign_in, until
from tests.dashboard.shop import add, fail, hold

pytestmark = pytest.mark.asyncio


async def failed(queue: AsyncOmniQ) -> str:
    task_id = await queue.enqueue(fail, ("no",))
    await until(queue, task_id, Status.FAILED)
    return str(task_id)


def all_posts(app: DashboardApp) -> list[str]:
    return [
        route.path_format.format(task_id="019a0000-0000-7000-8000-000000000000", action="retry")
        for route in app.routes
        if isinstance(route, HTTPRoute) and "POST" in route.methods
    ]


async def test_every_form_is_checked(app: DashboardApp, browser: httpx.AsyncClient) -> None:
    """Whatever page is added later is in this list by itself."""
    paths = all_posts(app)
    assert len(paths) >= 4
    for path in paths:
        for headers in (SAME, {}, {"origin": BASE}, {"sec-fetch-site": "cross-site"}):
            answer = await browser.post(path, data={"token": TOKEN}, headers=headers)
            assert answer.status_code in (401, 403), (path, headers)


ORIGINS: list[tuple[dict[str, str], bool]] = [
    ({}, True),  # no browser: nobody's cookies can be abused
    ({"sec-fetch-site": "same-origin"}, True),
    ({"sec-fetch-site": "same-origin", "origin": "https://proxy.example"}, True),
    ({"sec-fetch-site": "same-site"}, False),
    ({"sec-fetch-site": "cross-site"}, False),
    ({"sec-fetch-site": "none"}, False),
    ({"sec-fetch-site": "cross-site", "origin": BASE}, False),
    ({"origin": BASE}, True),
    ({"origin": "https://evil.example"}, False),
    ({"origin": "http://dash.test:81"}, False),
    ({"origin": "null"}, False),
]


async def test_origin_and_token(
    queue: AsyncOmniQ, app: DashboardApp, browser: httpx.AsyncClient
) -> None:
    async with client(app) as other:
        await sign_in(other)
        strangers = form_token((await other.get("/about")).text)
    ours = form_token((await browser.get("/about")).text)
    for headers, allowed in ORIGINS:
        for token in (ours, "", "0" * 64, strangers):
            task_id = await queue.enqueue(add, (1, 2), delay=3600)
            url = f"/tasks/{task_id}/cancel"
            answer = await browser.post(url, data={"_token": token}, headers=headers)
            right = allowed and token == ours
            assert answer.status_code == (303 if right else 403), (headers, token)
            status = (await queue.info(task_id)).row.status
            assert status is (Status.CANCELLED if right else Status.SCHEDULED), (headers, token)


async def test_retry_cancel_and_delete_work_and_are_noted(
    queue: AsyncOmniQ, browser: httpx.AsyncClient
) -> None:
    task_id = await failed(queue)
    answer = await post(browser, f"/tasks/{task_id}/retry")
    assert answer.headers["location"] == f"/tasks/{task_id}?notice=retried"
    await until(queue, task_id, Status.FAILED)
    assert "will run again" in (await browser.get(answer.headers["location"])).text

    running = await queue.enqueue(hold)
    await until(queue, running, Status.RUNNING)
    answer = await post(browser, f"/tasks/{running}/cancel")
    assert answer.headers["location"].endswith("?notice=cancelled")
    await until(queue, running, Status.CANCELLED)
    again = await post(browser, f"/tasks/{running}/cancel")
    assert again.headers["location"].endswith("?notice=not-cancelled")

    answer = await post(browser, f"/tasks/{running}/delete")
    assert answer.headers["location"] == "/tasks?notice=deleted"
    assert (await browser.get(f"/tasks/{running}")).status_code == 404
    answer = await post(browser, f"/tasks/{running}/delete")
    assert answer.headers["location"] == "/tasks?notice=gone"

    await queue.close()
    noted = await queue.events(EventFilter(types=(EventType.ACTION,)))
    assert [(e.data["action"], e.data["actor"]) for e in noted.events] == [
        ("retry", "token"),
        ("cancel", "token"),
        ("delete", "token"),
    ]


async def test_unknown_actions_and_ids_are_not_found(browser: httpx.AsyncClient) -> None:
    good = "019a0000-0000-7000-8000-000000000000"
    for path in (f"/tasks/{good}/explode", "/tasks/nonsense/retry"):
        assert (await post(browser, path)).status_code == 404


@pytest.mark.parametrize("by", ["config", "principal"])
async def test_read_only_is_kept_by_the_server(queue: AsyncOmniQ, by: str) -> None:
    from msgspec.structs import replace

    task_id = await failed(queue)
    if by == "config":
        config = replace(queue.config, dashboard=replace(queue.config.dashboard, read_only=True))
        app = DashboardApp(queue, config=config)
    else:
        app = DashboardApp(queue, auth=lambda request: Principal("eve", read_only=True))
    async with client(app) as visitor:
        if by == "config":
            await sign_in(visitor)
        page = await visitor.get(f"/tasks/{task_id}")
        assert page.status_code == 200
        assert "Read only" in page.text
        assert f"/tasks/{task_id}/retry" not in page.text
        for action in ("retry", "cancel", "delete"):
            assert (await post(visitor, f"/tasks/{task_id}/{action}")).status_code == 403
    assert (await queue.info(task_id)).row.status is Status.FAILED


async def test_the_module_is_answered_with_a_toast(
    queue: AsyncOmniQ, browser: httpx.AsyncClient
) -> None:
    done = await queue.enqueue(add, (1, 2))
    await queue.get_result(done, timeout=60)
    token = form_token((await browser.get("/about")).text)
    answer = await browser.post(
        f"/tasks/{done}/cancel",
        data={"_token": token},
        headers={**SAME, "datastar-request": "true"},
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "event: datastar-patch-elements" in answer.text
    assert "data: mode append" in answer.text
    assert "already ended" in answer.text
