"""Each page says what is there, and a newcomer what to do."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from omniq import AsyncOmniQ
from omniq.dashboard import DashboardApp
from omniq.models.status import Status
from tests.dashboard.kit import TOKEN, client, post, sign_in, until
from tests.dashboard.shop import add, echo, fail, hold

pytestmark = pytest.mark.asyncio
PAGES = {
    "/": "Overview",
    "/tasks": "Tasks",
    "/queues": "Queues",
    "/workers": "Workers",
    "/events": "Events",
    "/about": "About",
}


def rows(html: str) -> list[str]:
    return re.findall(r'<tr id="t-([0-9a-f-]{36})"', html)


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_knows_where_it_is(browser: httpx.AsyncClient, page: str) -> None:
    answer = await browser.get(page)
    assert answer.status_code == 200
    assert f"<h1>{PAGES[page]}</h1>" in answer.text
    assert f'href="{page}" aria-current="page">{PAGES[page]}</a>' in answer.text
    ids = re.findall(r' id="([^"]+)"', answer.text)
    assert len(ids) == len(set(ids)), "an id stands twice"


async def test_about_says_what_survives_at_every_place(tmp_path: Path) -> None:
    places = {"result_storage": "memory", "event_storage": "jsonl"}
    queue = AsyncOmniQ({"base_dir": str(tmp_path), "dashboard": {"token": TOKEN}, **places})
    async with queue, client(DashboardApp(queue)) as browser:
        await sign_in(browser)
        text = (await browser.get("/about")).text
    pairs = re.findall(r"<dt>([^<]+)</dt><dd>([^<]*)</dd>", text)
    assert ("Tasks are kept in", f"SQLite {tmp_path / 'omniq.db'}") in pairs
    assert ("Results are kept in", "memory of this process") in pairs
    kept = [words for label, words in pairs if label == "What survives"]
    assert kept[0].startswith("survives a crash of the process, not of the machine (SQLite 3.")
    assert "synchronous=NORMAL" in kept[0]
    assert kept[1] == "nothing survives the end of the process that keeps it"
    assert ("Events are kept in", f"JSON lines in {tmp_path / 'events'}") in pairs
    assert kept[2].startswith("survives a crash of the process")


@pytest.mark.parametrize("page", ["/", "/tasks", "/queues"])
async def test_an_empty_place_shows_how_to_begin(browser: httpx.AsyncClient, page: str) -> None:
    text = (await browser.get(page)).text
    assert "queue.enqueue(add, args=(5, 10))" in text


async def test_no_worker_says_how_to_start_one(browser: httpx.AsyncClient) -> None:
    assert "omniq worker" in (await browser.get("/workers")).text


async def test_the_overview_counts_and_links(queue: AsyncOmniQ, browser: httpx.AsyncClient) -> None:
    for number in range(3):
        await queue.get_result(await queue.enqueue(add, (number, 1)), timeout=60)
    await until(queue, await queue.enqueue(fail, ("broken",)), Status.FAILED)
    await queue.enqueue(add, (1, 1), delay=3600)
    text = (await browser.get("/")).text
    tiles = dict(re.findall(r'id="tile-(\w+)".*?<strong class="num">([\d\u202f]+)<', text))
    assert tiles == {
        "ready": "0",
        "running": "0",
        "scheduled": "1",
        "succeeded": "3",
        "failed": "1",
    }
    assert 'href="/tasks?status=failed"' in text
    assert "Alive" in text
    assert "SQLite" in text


async def test_the_list_is_filtered_by_its_url(
    queue: AsyncOmniQ, browser: httpx.AsyncClient
) -> None:
    one = await queue.enqueue(add, (1, 2), tags=["red"])
    two = await queue.enqueue(echo, ("needle",))
    bad = await queue.enqueue(fail, ("broken",))
    later = await queue.enqueue(add, (1, 2), delay=3600)
    for task_id in (one, two):
        await until(queue, task_id, Status.SUCCEEDED)
    await until(queue, bad, Status.FAILED)
    worker = (await queue.info(one)).row.owner
    for query, expected in {
        "": {one, two, bad, later},
        "status=failed": {bad},
        "status=scheduled": {later},
        "queue=echoes": {two},
        "name=shop:add": {one, later},
        "tag=red": {one},
        f"worker={worker}": {one, two, bad},
        "q=needle": {two},
        "since=1h": {one, two, bad, later},
        "to=2020-01-01T00:00": set(),
        "from=2020-01-01T00:00": {one, two, bad, later},
        "status=nonsense&since=x&from=y": {one, two, bad, later},
        "status=succeeded&queue=default": {one},
    }.items():
        text = (await browser.get(f"/tasks?{query}")).text
        assert set(rows(text)) == {str(task_id) for task_id in expected}, query
    text = (await browser.get("/tasks?queue=echoes&q=%22x%22")).text
    assert 'value="&#34;x&#34;"' in text
    assert '<option value="echoes" selected>' in text
    assert "Nothing matches" in text


async def test_an_id_in_the_search_box_leads_to_its_task(
    queue: AsyncOmniQ, browser: httpx.AsyncClient
) -> None:
    task_id = await queue.enqueue(add, (1, 2))
    answer = await browser.get("/tasks", params={"q": str(task_id)})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/tasks/{task_id}")


async def test_pages_of_the_list_lead_there_and_back(
    queue: AsyncOmniQ, browser: httpx.AsyncClient
) -> None:
    made = [await queue.enqueue(add, (n, 1), delay=3600, queue="deep") for n in range(120)]
    seen: list[list[str]] = []
    url = "/tasks?queue=deep"
    for _ in range(3):
        text = (await browser.get(url)).text
        seen.append(rows(text))
        older = re.search(r'href="([^"]+)" rel="next"', text)
        if older:
            url = older[1].replace("&amp;", "&")
            assert "queue=deep" in url
    assert [len(page) for page in seen] == [50, 50, 20]
    assert [one for page in seen for one in page] == [str(task_id) for task_id in reversed(made)]
    for page in (seen[1], seen[0]):
        newer = re.search(r'href="([^"]+)" rel="prev"', text)
        assert newer
        text = (await browser.get(newer[1].replace("&amp;", "&"))).text
        assert rows(text) == page
    assert 'rel="prev"' not in text


async def test_a_task_shows_what_it_was_given_and_what_came_of_it(
    queue: AsyncOmniQ, browser: httpx.AsyncClient
) -> None:
    task_id = await queue.enqueue(
        echo, ({"deep": [1, 2.5, None, True]},), {"flag": "on"}, metadata={"order": 77}
    )
    await until(queue, task_id, Status.SUCCEEDED)
    text = (await browser.get(f"/tasks/{task_id}")).text
    for part in (
        "Succeeded",
        "&#34;deep&#34;",
        "2.5",
        "null",
        "&#34;flag&#34;",
        "77",
        "Enqueued",
        "Started",
        "Completed",
        "waited",
        "attempt 1",
    ):
        assert part in text, part
    assert "Retry" not in text


async def test_an_error_shows_its_traceback(queue: AsyncOmniQ, browser: httpx.AsyncClient) -> None:
    task_id = await queue.enqueue(fail, ("the reason",))
    await until(queue, task_id, Status.FAILED)
    text = (await browser.get(f"/tasks/{task_id}")).text
    assert "ValueError" in text
    assert "the reason" in text
    assert "Traceback (most recent call last)" in text
    assert f'action="/tasks/{task_id}/retry"' in text


async def test_progress_is_a_bar(queue: AsyncOmniQ, browser: httpx.AsyncClient) -> None:
    task_id = await queue.enqueue(hold)
    async with queue.listen({"tasks"}) as ear:
        while (await queue.info(task_id)).progress is None:
            await ear.wait(1.0)
    text = (await browser.get(f"/tasks/{task_id}")).text
    assert '<progress value="3" max="10"' in text
    assert "3 of 10" in text
    await queue.cancel(task_id)


async def test_what_could_run_code_is_described_not_opened(
    queue: AsyncOmniQ, browser: httpx.AsyncClient
) -> None:
    secret = object()
    task_id = await queue.enqueue(echo, (lambda: secret,), worker="async", delay=3600)
    text = (await browser.get(f"/tasks/{task_id}")).text
    assert "dill" in text
    assert "Not opened here" in text


async def test_workers_queues_and_events_tell_of_a_run(
    queue: AsyncOmniQ, browser: httpx.AsyncClient
) -> None:
    task_id = await queue.enqueue(fail, ("x",), queue="echoes")
    await until(queue, task_id, Status.FAILED)
    worker = (await queue.workers())[0]
    text = (await browser.get("/workers")).text
    assert worker.id in text
    assert f"/ {worker.slots['async']}<" in text
    assert "echoes" in (await browser.get("/queues")).text
    events = (await browser.get(f"/events?task={task_id}")).text
    assert "Attempt 1 failed" in events
    assert "Failed for good" in events
    assert "shop:fail" in events
    none = (await browser.get(f"/events?task={task_id}&type=cancelled")).text
    assert "No event" in none


async def test_colours_are_kept_without_scripts(browser: httpx.AsyncClient) -> None:
    assert 'data-theme="auto"' in (await browser.get("/")).text
    answer = await post(browser, "/theme", theme="dark", back="/tasks?queue=a")
    assert (answer.status_code, answer.headers["location"]) == (303, "/tasks?queue=a")
    assert 'data-theme="dark"' in (await browser.get("/")).text


async def test_pages_reload_themselves_where_no_script_runs(browser: httpx.AsyncClient) -> None:
    text = (await browser.get("/tasks?status=failed")).text
    assert '<noscript><meta http-equiv="refresh"' in text
    assert "Reload now" in text


async def test_a_closed_place_is_told_in_words(queue: AsyncOmniQ, app: DashboardApp) -> None:
    from omniq.errors import StorageUnavailable

    async def down() -> None:
        raise StorageUnavailable("the disk is away")

    async with client(app) as visitor:
        await sign_in(visitor)
        await visitor.get("/")
        queue.counts = queue.workers = down  # type: ignore[method-assign,assignment]
        app.desk.reads().forget()
        answer = await visitor.get("/queues")
        assert answer.status_code == 503
        assert "does not answer" in answer.text
        assert (await visitor.get("/health")).status_code == 503


async def test_the_charts_can_be_read_as_a_table(
    queue: AsyncOmniQ, browser: httpx.AsyncClient
) -> None:
    text = (await browser.get("/")).text
    assert '<svg viewBox="0 0 15 100"' in text
    assert 'href="/?as=table"' in text
    task_id = await queue.enqueue(add, (1, 2))
    await until(queue, task_id, Status.SUCCEEDED)
    text = (await browser.get("/?as=table")).text
    assert '<svg viewBox="0 0 15 100"' not in text
    assert "In line p95" in text
    assert 'href="/">As charts' in text
