"""Servers and workers of a Django project that are told to stop while they are busy."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from omniq import AsyncOmniQ
from omniq.models.row import TaskRow
from omniq.models.status import Status
from tests.contrib.django.project import Project
from tests.contrib.django.served import (
    IN_DATABASE,
    KINDS,
    Kind,
    Site,
    made,
    notes_in,
    queue_of,
    serving,
)
from tests.programs import PATIENCE, Program
from tests.rows import rows_in
from tests.waiting import until

pytestmark = [pytest.mark.asyncio, pytest.mark.once]
GRACE = 0.5
SETTINGS = {"OMNIQ_GRACE": str(GRACE), "OMNIQ_THREAD_WORKERS": "8", "OMNIQ_ASYNC_WORKERS": "8"}
LIVE = {"accept": "text/event-stream", "datastar-request": "true"}


@pytest.fixture
def place(tmp_path: Path) -> tuple[Project, str]:
    return made(tmp_path)


def mark(number: int) -> str:
    """Some outlast the grace by far, of either lane, so they have to be given back."""
    lane = "async " * (number % 2)
    return f"{'long ' if number % 20 in (7, 12) else ''}{lane}{number}"


class Sender:
    """Asks for tasks until the server is gone; keeps the ids it was given an answer for."""

    def __init__(self, site: Site, view: str) -> None:
        self.acknowledged: list[str] = []
        self.enough = threading.Event()
        self._site, self._view = site, view
        self._numbers = iter(range(1_000_000))
        self._threads = [threading.Thread(target=self._send) for _ in range(3)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        with self._site.client() as client:
            while True:
                try:
                    answer = client.get(f"/{self._view}/{mark(next(self._numbers))}/")
                except httpx.TransportError:
                    return
                if answer.status_code >= 500:  # it is closing
                    return
                self.acknowledged.append(answer.json()["id"])
                if len(self.acknowledged) >= 60:
                    self.enough.set()

    def join(self) -> list[str]:
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        return self.acknowledged


@pytest.mark.parametrize(
    ("kind", "view"),
    [
        (KINDS["gthread"]._replace(env=IN_DATABASE), "start"),
        (KINDS["uvicorn"], "astart"),
    ],
    ids=["gthread", "uvicorn"],
)
async def test_a_server_that_stops_loses_nothing(
    place: tuple[Project, str], kind: Kind, view: str
) -> None:
    project, session = place
    with serving(project, kind, **SETTINGS) as site, ExitStack() as pages:
        if kind.is_async:  # somebody looks at the dashboard meanwhile
            visitor = pages.enter_context(site.client(sessionid=session))
            page = pages.enter_context(visitor.stream("GET", "/omniq/?live=1", headers=LIVE))
            assert "event-stream" in page.headers["content-type"]
            next(page.iter_text())
        sender = Sender(site, view)
        assert await asyncio.to_thread(sender.enough.wait, PATIENCE)
        await under_way(project)
        stops(site.server)
    acknowledged = sender.join()
    async with queue_of(project, kind) as queue:
        left = await waiting(queue, acknowledged)
        with serving(project, kind.alone, AGAIN="yes", **SETTINGS) as site:
            with site.client() as client:
                client.get("/where/")  # any request starts the worker
            await all_end(project, queue, acknowledged, left, processes=2)


async def test_a_worker_that_stops_loses_nothing(place: tuple[Project, str]) -> None:
    project, _ = place
    kind = Kind("", "", IN_DATABASE)
    words = ["manage.py", "omniq_worker"]
    async with queue_of(project, kind) as queue:
        first = [await asked(queue, number) for number in range(40)]
        with project.start(*words, **SETTINGS, **IN_DATABASE) as worker:
            more = [await asked(queue, number) for number in range(40, 200)]
            await under_way(project)
            stops(worker)
        left = await waiting(queue, [*first, *more])
        with project.start(*words, AGAIN="yes", **SETTINGS, **IN_DATABASE) as worker:
            await all_end(project, queue, [*first, *more], left, processes=1)
            worker.send(signal.SIGTERM)
            assert worker.ends() == 0


async def asked(queue: AsyncOmniQ, number: int) -> str:
    return await queue.enqueue("anote" if number % 2 else "note", (mark(number),))


async def under_way(project: Project) -> None:
    """Wait until there runs what the grace will not let end."""
    await until(
        lambda: any(text.startswith("began long") for text in notes_in(project)),
        patience=PATIENCE,
    )


def stops(program: Program) -> None:
    program.send(signal.SIGTERM)
    program.ends()  # the grace bounds it, not the longest task: that takes ten times our patience
    assert "Traceback" not in program.output, program.output


async def waiting(queue: AsyncOmniQ, ids: list[str]) -> dict[str, TaskRow]:
    """What has not ended; nothing of it may look as if it ran, or had failed."""
    rows = await rows_in(queue)
    assert set(ids) <= rows.keys()
    left = {id: row for id, row in rows.items() if row.status is not Status.SUCCEEDED}
    assert left, "it was stopped while there was work"
    assert {row.status for row in left.values()} == {Status.READY}, "all were given back"
    assert {row.attempt for row in left.values()} == {0}, "no attempt was used up"
    assert any(row.epoch for row in left.values()), "some were under way"
    return left


async def all_end(
    project: Project,
    queue: AsyncOmniQ,
    ids: list[str],
    left: dict[str, TaskRow],
    processes: int,
) -> None:
    """After a new start; what stopped were so many processes."""
    async for result in queue.results({*ids, *left}):
        assert result.status == "success", result
    rows = await rows_in(queue)
    assert {row.attempt for row in rows.values()} == {1}
    notes = notes_in(project)
    ended, begun = (
        {text: times for text, times in notes.items() if text.startswith(word)}
        for word in ("ended", "began")
    )
    assert len(ended) == len(rows)
    # A thread cannot be stopped: what was given back may still have come to its end.
    given_out = sum(row.epoch for row in rows.values())
    assert sum(ended.values()) <= sum(begun.values()) <= given_out, "nothing else ran twice"
    assert {row.epoch for row in rows.values()} <= {*range(1, processes + 2)}, "by each once"
