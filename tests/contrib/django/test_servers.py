"""Every kind of server: views enqueue and wait, its own processes do the work, once each.

`test_serving.py` has runserver, and what a stop does to servers that have not much to do.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from omniq import AsyncOmniQ
from tests.contrib.django.project import Project
from tests.contrib.django.served import (
    KINDS,
    made,
    notes_in,
    queue_of,
    serving,
)
from tests.programs import PATIENCE
from tests.rows import rows_in

pytestmark = [pytest.mark.asyncio, pytest.mark.once]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    return made(tmp_path_factory.mktemp("served"))


@pytest.mark.parametrize("name", KINDS)
async def test_its_processes_do_the_work(place: tuple[Project, str], name: str) -> None:
    (project, session), kind = place, KINDS[name]
    with ExitStack() as stack:
        if name == "gevent":  # there is no embedded worker in its processes
            worker = stack.enter_context(project.start("manage.py", "omniq_worker", **kind.env))
        site = stack.enter_context(serving(project, kind))
        views = ("start", "astart") if kind.is_async else ("start",)
        starts = [
            f"/{view}/{name} {view} {'async ' * (number % 2)}{number}/"
            for view in views
            for number in range(10)
        ]
        waits = [f"/wait/{name} waited for/"]
        if kind.is_async:
            waits.append(f"/await/{name} awaited/")
        with site.client(sessionid=session) as client, ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(client.get, [*starts, *waits]))
            assert {answer.status_code for answer in answers} == {200}, site.server.output
            _dashboard_is_for_staff(client)
        told = [answer.json() for answer in answers]
        ids = [each["id"] for each in told if "id" in each]
        assert len(ids) == len(starts)
        servers = {each["pid"] for each in told if "pid" in each}
        async with queue_of(project, kind) as queue:
            places = {result.value async for result in queue.results(ids)}
            places |= {each["worker"] for each in told if "worker" in each}
            served = {worker.process.pid} if name == "gevent" else servers
            working = await at_work(queue, served)
            rows = await rows_in(queue)
        assert places <= working
        if name == "gevent":
            assert working == {worker.process.pid}
            site.server.says("EMBEDDED_WORKER has no effect in this process")
        else:
            assert (site.server.process.pid in working) is (name == "plain"), "never a master"
        assert {(rows[id].attempt, rows[id].epoch) for id in ids} == {(1, 1)}
        notes = notes_in(project)
        marks = [path.split("/")[2] for path in (*starts, *waits)]
        assert {notes[f"{word} {mark}"] for word in ("began", "ended") for mark in marks} == {1}
        for trouble in ("Traceback", "SynchronousOnlyOperation", "locked"):
            assert trouble not in site.server.output, site.server.output


async def at_work(queue: AsyncOmniQ, wanted: set[int]) -> set[int]:
    """The processes that work, once these do: each process that has served will."""
    async with asyncio.timeout(PATIENCE), queue.listen({"docs:worker"}) as ear:
        while not wanted <= (working := {card.pid for card in await queue.workers()}):
            await ear.wait(1)
        return working


def _dashboard_is_for_staff(client: httpx.Client) -> None:
    page = client.get("/omniq/")
    assert page.status_code == 200 and "Overview" in page.text
    client.cookies.clear()
    assert client.get("/omniq/").headers["location"].endswith("/login/?next=/omniq/")
