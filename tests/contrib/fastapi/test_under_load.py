"""Servers that are told to stop while they are busy, and several that share their work."""

from __future__ import annotations

import asyncio
import re
import signal
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest

from omniq import AsyncOmniQ, Status
from tests.contrib.fastapi.serving import Web, serving
from tests.programs import PATIENCE
from tests.rows import rows_in
from tests.waiting import until

pytestmark = [pytest.mark.asyncio, pytest.mark.once, pytest.mark.timeout(300)]
SETTINGS = {"OMNIQ_GRACE": "0.5", "OMNIQ_ASYNC_WORKERS": "8"}
LONG = {"m7", "m27", "m47"}
"""Tasks that outlast the grace by far, so they have to be given back."""


class Sender:
    """Posts tasks until the server is gone; keeps the ids it was given an answer for."""

    def __init__(self, web: Web) -> None:
        self.acknowledged: list[str] = []
        self.enough = threading.Event()
        self._web = web
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        with self._web.client() as client:
            number = 0
            while True:
                mark = f"m{number}"
                params = {"mark": mark, "seconds": "3600" if mark in LONG else "0.02"}
                try:
                    answer = client.post("/start", params=params)
                except httpx.TransportError:
                    return
                if answer.status_code >= 500:  # it is closing
                    return
                self.acknowledged.append(id_in(answer))
                number += 1
                if number == 60:
                    self.enough.set()

    def join(self) -> list[str]:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.acknowledged


def id_in(answer: httpx.Response) -> str:
    return str(answer.text.strip('"'))


@pytest.mark.parametrize(
    ("server", "app"),
    [
        ("uvicorn", "plain"),
        ("granian", "plain"),
        ("uvicorn", "litestar"),
        ("granian", "litestar"),
    ],
)
async def test_a_stop_under_load_loses_nothing(tmp_path: Path, server: str, app: str) -> None:
    with serving(server, app, cwd=tmp_path, env=SETTINGS) as web:
        sender = Sender(web)
        assert await asyncio.to_thread(sender.enough.wait, PATIENCE)
        await until(lambda: _runs(tmp_path).keys() >= LONG, patience=PATIENCE)
        web.send(signal.SIGTERM)
        web.ends()  # the grace bounds it, not the longest task
        assert "Traceback" not in web.output, web.output
    acknowledged = sender.join()
    async with AsyncOmniQ(base_dir=tmp_path / ".omniq", embedded=False) as queue:
        rows = await rows_in(queue)
        assert set(acknowledged) <= rows.keys()
        left = {id: row for id, row in rows.items() if row.status is not Status.SUCCEEDED}
        assert {row.status for row in left.values()} == {Status.READY}, "all were given back"
        assert {row.attempt for row in left.values()} == {0}, "no attempt was used up"
        runs = _runs(tmp_path)
        given_back = [id for id, row in left.items() if row.epoch]
        assert len(given_back) >= len(LONG), "they were under way"

        with serving(server, app, cwd=tmp_path, env=SETTINGS) as web:
            async for result in queue.results(rows):
                assert result.status == "success"
        rows = await rows_in(queue)
        assert {row.attempt for row in rows.values()} == {1}
    again = _runs(tmp_path)
    assert again.keys() >= runs.keys() and len(again) == len(rows)
    assert sum(again.values()) <= len(rows) + len(given_back), "nothing else ran twice"


def _runs(folder: Path) -> Counter[str]:
    """How often each task has started, by its mark."""
    runs = folder / "runs.log"
    lines = runs.read_text().splitlines() if runs.exists() else []
    return Counter(line.split()[0] for line in lines)


async def test_four_processes_share_the_work_and_one_token(tmp_path: Path) -> None:
    slots = {"OMNIQ_ASYNC_WORKERS": "2"}  # too few for one process
    # On a busy machine the imports alone outlast uvicorn's own patience with its children.
    four = ("--workers", "4", "--timeout-worker-healthcheck", "60")
    with serving("uvicorn", "plain", *four, cwd=tmp_path, env=slots) as web:
        for number in range(1, 5):  # each may take as long as a single server may
            web.says(rf"(?s)(?:OmniQ dashboard: \S+.*){{{number}}}")
        tokens = set(re.findall(r"OmniQ dashboard: \S+\?token=(\S+)", web.output))
        assert len(tokens) == 1, "whichever process answers, the link is good"

        with web.client() as visitor:
            # None ends before a third has begun, and one process has slots for two.
            answers = [
                visitor.post("/start", params={"mark": f"m{number}", "beside": "3"})
                for number in range(100)
            ]
        ids = [id_in(answer) for answer in answers]
        async with AsyncOmniQ(base_dir=tmp_path / ".omniq", embedded=False) as queue:
            places = Counter([result.value async for result in queue.results(ids)])
            assert sum(places.values()) == 100
            assert len(places) >= 2, "more than one process worked"
            alive = {card.pid for card in await queue.workers()}
            assert len(alive) == 4 and places.keys() <= alive
        assert set(_runs(tmp_path).values()) == {1}, "each ran once"

        for _ in range(6):  # another connection may be another process: the login holds
            with web.client() as visitor:
                page = visitor.get(f"/omniq/?token={next(iter(tokens))}", follow_redirects=True)
                assert page.status_code == 200 and "Overview" in page.text
        web.send(signal.SIGTERM)
        web.ends()
    assert "Traceback" not in web.output, web.output
