"""The plugin in a real server process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from omniq import AsyncOmniQ
from tests.programs import PATIENCE, ROOT, Server

pytestmark = [pytest.mark.asyncio, pytest.mark.once]
APP = "tests.contrib.shop:app"


@contextmanager
def sign_in(server: Server) -> Iterator[httpx.Client]:
    """A browser that has opened the link the server printed."""
    link = server.says(r"OmniQ dashboard: \S*?(/omniq/\?token=\S+)")[1]
    with httpx.Client(base_url=server.url, follow_redirects=True, timeout=PATIENCE) as browser:
        assert browser.get(link).status_code == 200
        yield browser


async def test_the_printed_link_opens_the_dashboard(tmp_path: Path) -> None:
    with Server(APP, cwd=tmp_path, paths=[ROOT]) as server:
        with sign_in(server) as browser:
            assert browser.get("/omniq/tasks").status_code == 200
        assert server.output.count("OmniQ dashboard") == 1


async def test_an_open_dashboard_does_not_delay_the_end(tmp_path: Path) -> None:
    with Server(APP, cwd=tmp_path, paths=[ROOT]) as server, sign_in(server) as browser:
        live = {"accept": "text/event-stream", "datastar-request": "true"}
        with browser.stream("GET", "/omniq/", params={"live": "1"}, headers=live) as stream:
            assert "event-stream" in stream.headers["content-type"]
            texts = stream.iter_text()
            next(texts)
            server.send(signal.SIGTERM)
            server.ends()  # while the page is open: nobody but the server closes it
            for _ in texts:  # it ended whole, it was not cut off
                pass
    assert "Application shutdown complete" in server.output
    assert "Traceback" not in server.output


async def test_running_tasks_may_end_when_the_server_stops(tmp_path: Path) -> None:
    with Server(APP, cwd=tmp_path, paths=[ROOT]) as server:
        params = {"seconds": "1", "mark": "task"}
        answer = httpx.post(f"{server.url}/slow", params=params, timeout=PATIENCE)
        assert answer.status_code == 201
        async with AsyncOmniQ(base_dir=tmp_path / ".omniq", embedded=False) as queue:
            async with queue.listen({"tasks"}) as ear:
                while not (tmp_path / "task.started").exists():
                    await ear.wait(1)
            server.send(signal.SIGTERM)
            server.ends()
            assert (tmp_path / "task.ended").exists()
            assert (await queue.result(answer.text)).status == "success"
    assert len(list(tmp_path.glob("closed.*"))) == 1, "the app's own lifespan was closed"


async def test_a_place_that_cannot_be_opened_fails_the_boot_with_its_cause(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    env = {"OMNIQ_STORAGE_URL": f"sqlite:///{tmp_path}/folder"}
    with Server(APP, cwd=tmp_path, env=env, paths=[ROOT]) as server:
        assert server.ends() == 3
    assert "it is a directory" in server.output


async def test_server_placement_under_another_server_fails_the_boot(tmp_path: Path) -> None:
    env = {"SHOP_PLACEMENT": "server"}
    with Server(APP, cwd=tmp_path, env=env, paths=[ROOT]) as server:
        assert server.ends() == 3
    assert "needs the Litestar command line" in server.output
