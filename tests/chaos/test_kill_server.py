"""`kill -9` of a server in the middle of its work, and what is true after the next start."""

from __future__ import annotations

import io
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from omniq import AsyncOmniQ, EventFilter, EventType, Status, TaskFilter
from tests.programs import ROOT, Server

pytestmark = [pytest.mark.asyncio, pytest.mark.once, pytest.mark.timeout(600)]
APP = "example_apps.litestar_app.app:app"
SIZES = ("small", "medium", "large")
# Every event, so that ends can be counted. That a lease is not waited for is seen by its length:
# whoever starts on this machine takes over from the dead at once.
SETTINGS = {"OMNIQ_LEASE": "3600", "OMNIQ_EVENT_LEVEL": "DEBUG"}


class Sender:
    """Uploads batches until the server is gone, eight at most; keeps what was acknowledged."""

    def __init__(self, url: str, pictures: list[Path]) -> None:
        self._url = f"{url}/pictures"
        self._parts = [("pictures", (path.name, path.read_bytes())) for path in pictures]
        self.accepted: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        with httpx.Client(headers={"accept": "application/json"}, timeout=60) as client:
            while len(self.accepted) < 8:
                try:
                    answer = client.post(self._url, files=self._parts)
                except httpx.TransportError:
                    return
                assert answer.status_code == 201, answer.text
                self.accepted.append(answer.json())

    def join(self) -> list[dict[str, Any]]:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.accepted


async def test_every_accepted_upload_is_finished_once(tmp_path: Path) -> None:
    pictures = [_noise(tmp_path / f"{number}.jpg") for number in range(4)]
    async with AsyncOmniQ(base_dir=tmp_path / ".omniq", embedded=False) as queue:
        with Server(APP, cwd=tmp_path, env=SETTINGS, paths=[ROOT]) as server:
            sender = Sender(server.url, pictures)
            await _stop_in_the_middle(queue, server, sender)
            server.send(signal.SIGKILL)
            assert server.ends() == -signal.SIGKILL
            accepted = sender.join()
        assert len(accepted) >= 2
        left = await queue.find(TaskFilter(statuses=(Status.RUNNING,)), limit=500)
        assert left.tasks, "it was killed while tasks ran"

        with Server(APP, cwd=tmp_path, env=SETTINGS, paths=[ROOT]) as server:
            for batch in accepted:
                assert (await queue.get_result(batch["sheet"], timeout=300))["files"]
                url = f"{server.url}/batches/{batch['id']}"
                assert httpx.get(url, timeout=60).json()["finished"]
            await _nothing_left(queue)
            await _each_task_ended_once(queue, accepted)
        for batch in accepted:
            _whole(tmp_path / ".omniq" / "album" / batch["id"], batch)


def _noise(path: Path) -> Path:
    """A picture that takes a while to make small, as photographs do."""
    Image.effect_noise((1000, 750), 80).save(path, "JPEG")
    return path


async def _stop_in_the_middle(queue: AsyncOmniQ, server: Server, sender: Sender) -> None:
    """Wait until some of a batch is done while more of it runs and waits; it goes no further."""
    async with queue.listen({"tasks"}) as ear:
        while True:
            if len(sender.accepted) >= 2 and await _is_in_the_middle(queue):
                server.send(signal.SIGSTOP)
                if await _is_in_the_middle(queue):
                    return
                server.send(signal.SIGCONT)
            await ear.wait(0.1)


async def _is_in_the_middle(queue: AsyncOmniQ) -> bool:
    counts = Counter[Status]()
    for each in await queue.counts():
        counts[each.status] += each.count
    done, going = counts[Status.SUCCEEDED], counts[Status.RUNNING]
    return done > 4 and going > 1 and counts[Status.WAITING] > 0


async def _nothing_left(queue: AsyncOmniQ) -> None:
    """Uploads that were cut off before they were acknowledged may have been resumed: wait."""
    page = await queue.find(limit=500)
    async for _ in queue.results([row.id for row in page.tasks]):
        pass


async def _each_task_ended_once(queue: AsyncOmniQ, accepted: list[dict[str, Any]]) -> None:
    ids = {each["task"] for batch in accepted for each in batch["pictures"]}
    ids |= {batch["sheet"] for batch in accepted}
    rows = (await queue.find(limit=500)).tasks
    assert ids <= {row.id for row in rows}
    assert {row.status for row in rows} == {Status.SUCCEEDED}
    ends = Counter[str]()
    cursor = None
    while True:
        page = await queue.events(EventFilter(types=(EventType.COMPLETE,)), after=cursor, limit=500)
        ends.update(event.task for event in page.events)
        if not page.events:
            break
        cursor = page.cursor
    assert {ends[each] for each in ids} == {1}, "no task has two final results"


def _whole(folder: Path, batch: dict[str, Any]) -> None:
    numbers = range(1, len(batch["pictures"]) + 1)
    wanted = {f"{number:02}-{size}.webp" for number in numbers for size in SIZES} | {"sheet.webp"}
    assert {path.name for path in folder.iterdir()} == wanted | {"batch.json", "originals"}
    for name in wanted:
        with Image.open(io.BytesIO((folder / name).read_bytes())) as image:
            image.load()  # a file cut short raises here
