"""What the dashboard's tests share: a client without network, a server with it."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from omniq import AsyncOmniQ
from omniq.models.status import Status

TOKEN = "a-token-for-the-tests-of-the-dashboard"
BASE = "http://dash.test"
SAME = {"sec-fetch-site": "same-origin"}


def a_queue(base_dir: Path, **dashboard: Any) -> AsyncOmniQ:
    """A real queue on SQLite with its embedded worker."""
    settings = {"token": TOKEN, **dashboard}
    return AsyncOmniQ({"base_dir": str(base_dir / ".omniq"), "dashboard": settings})


def client(app: Any, **more: Any) -> httpx.AsyncClient:
    """A browser without a screen: keeps cookies, follows nothing by itself."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=BASE, **more)


async def sign_in(browser: httpx.AsyncClient, prefix: str = "") -> None:
    answer = await browser.get(f"{prefix}/?token={TOKEN}")
    assert answer.status_code == 303, answer.text


def form_token(html: str) -> str:
    found = re.search(r'name="_token" value="([0-9a-f]{64})"', html)
    assert found, html
    return found[1]


async def post(browser: httpx.AsyncClient, url: str, page: str = "/about", **fields: str) -> Any:
    """Send a form as a browser would that looks at `page`."""
    token = form_token((await browser.get(page)).text)
    return await browser.post(url, data={"_token": token, **fields}, headers=SAME)


async def until(queue: AsyncOmniQ, task_id: str, *statuses: Status) -> None:
    """Wait, woken by the queue itself, until a task has one of the statuses."""
    async with asyncio.timeout(60), queue.listen({"tasks"}) as ear:
        while (await queue.info(task_id)).row.status not in statuses:
            await ear.wait(1.0)


@asynccontextmanager
async def served(
    app: Any, port: int = 0, close: Callable[[], None] | None = None
) -> AsyncIterator[str]:
    """The app under a real server in this loop; gives its address."""
    config = uvicorn.Config(app, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", port))
    running = asyncio.create_task(server.serve([listener]))
    try:
        async with asyncio.timeout(60):
            while not server.started:  # noqa: ASYNC110 - uvicorn tells it by a flag only
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        (close or app.close_streams)()
        server.should_exit = True
        await running
