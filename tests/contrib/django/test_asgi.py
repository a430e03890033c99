"""The ASGI application with a lifespan: the embedded worker lives as long as the server."""

from __future__ import annotations

import asyncio
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from omniq.contrib.django import aqueue, asgi
from omniq.contrib.django.runtime import blocking
from omniq.contrib.django.workers import serving
from tests.contrib.django.conftest import Omniq
from tests.contrib.django.shop.tasks import add

pytestmark = pytest.mark.asyncio


class Lifespan:
    """A server as the application sees it."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        app = asgi.get_asgi_application()
        self.task = asyncio.create_task(
            app({"type": "lifespan"}, self.told.get, self.said.put), name="lifespan"
        )

    async def send(self, word: str) -> dict[str, Any]:
        await self.told.put({"type": f"lifespan.{word}"})
        return await self.said.get()


@pytest.fixture(autouse=True)
def _signals_as_before() -> Any:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_the_worker_starts_and_drains_with_the_server(omniq: Omniq) -> None:
    omniq(STORAGE_TYPE="memory", EMBEDDED_WORKER=True)
    waiting = await aqueue.enqueue(add, (1, 2))
    server = Lifespan()
    assert await server.send("startup") == {"type": "lifespan.startup.complete"}
    assert await waiting.result(30) == 3
    assert [each.embedded for each in await aqueue.workers()] == [True]
    old = blocking()
    assert await server.send("shutdown") == {"type": "lifespan.shutdown.complete"}
    await server.task
    assert blocking() is not old, "it was closed"


async def test_without_the_setting_nothing_is_started(omniq: Omniq) -> None:
    omniq(STORAGE_TYPE="memory")
    server = Lifespan()
    await server.send("startup")
    assert await aqueue.workers() == []
    await server.send("shutdown")


async def test_what_cannot_start_keeps_the_server_from_starting(
    omniq: Omniq, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    omniq(BASE_DIR=tmp_path / "file" / "below", EMBEDDED_WORKER=True)
    said = await Lifespan().send("startup")
    assert said["type"] == "lifespan.startup.failed"
    assert said["message"].startswith("OmniQ: ")
    assert "file" in said["message"]


async def test_the_servers_handlers_are_called_behind_ours(omniq: Omniq) -> None:
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    server = Lifespan()
    await server.send("startup")
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM]
    again = Lifespan()
    await again.send("startup")
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM] * 2, "once each, however many lifespans there were"
    for each in (server, again):
        await each.send("shutdown")


async def test_a_start_that_fails_in_a_request_is_told_and_tried_again(
    omniq: Omniq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from django.core.handlers.asgi import ASGIHandler

    monkeypatch.setattr(serving, "under_test", lambda: False)
    monkeypatch.setattr(serving, "_now", serving._Embedded())
    done = threading.Event()
    tell = serving._tell

    def told(started: Any) -> None:
        tell(started)
        done.set()

    monkeypatch.setattr(serving, "_tell", told)
    (tmp_path / "file").write_text("not a folder")
    omniq(BASE_DIR=tmp_path / "file" / "below", EMBEDDED_WORKER=True)
    await asyncio.to_thread(serving.on_request, sender=ASGIHandler)
    assert await asyncio.to_thread(done.wait, 30)
    assert "the embedded worker did not start" in caplog.text
    omniq(STORAGE_TYPE="memory", EMBEDDED_WORKER=True)
    for later in (False, True):
        done.clear()
        if later:
            monkeypatch.setattr(serving._now, "next_try", 0.0)
        await asyncio.to_thread(serving.on_request, sender=ASGIHandler)
        assert (await asyncio.to_thread(done.wait, 30 if later else 0)) is later
    assert len(await aqueue.workers()) == 1
    await asyncio.to_thread(blocking().stop_worker)


async def test_test_clients_and_others_start_nothing(
    _test_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.core.handlers.wsgi import WSGIHandler
    from django.test.client import ClientHandler

    monkeypatch.setattr(serving, "_now", serving._Embedded())
    assert not serving._serves(WSGIHandler), "the live server of a test case"
    monkeypatch.setattr(serving, "under_test", lambda: False)
    assert serving._serves(WSGIHandler)
    assert not serving._serves(ClientHandler)
    assert not serving._serves(None)
