"""What the tests of these adapters share."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

import omniq
from omniq import AsyncOmniQ
from omniq.contrib.fastapi import OmniQExtension
from omniq.contrib.starlette import OmniQExtension as StarletteExtension
from tests.dashboard.kit import SAME, TOKEN, form_token

BASE = "http://app.test"


@omniq.task("fastapi.tests.add")
def add(x: int, y: int) -> int:
    return x + y


def extension(**options: Any) -> OmniQExtension:
    """One that keeps its tasks in memory and says nothing."""
    return OmniQExtension(storage_type="memory", announce=False, **options)


def bare_extension(**options: Any) -> StarletteExtension:
    return StarletteExtension(storage_type="memory", announce=False, **options)


@asynccontextmanager
async def served(app: Any, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The app, started in this very loop, so that its queue can be asked from here too."""
    async with app.router.lifespan_context(app), client(app, **more) as browser:
        yield browser


def client(app: Any, **more: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE, **more)


async def check(app: Any, prefix: str, queue: AsyncOmniQ) -> None:
    """What a visitor does who follows only links, and then acts: all of it below `prefix`."""
    task = await queue.enqueue(add, (1, 2), delay=3600)
    async with client(app) as visitor:
        assert (await visitor.get(f"{prefix}/")).status_code == 401
        answer = await visitor.get(f"{prefix}/tasks?token={TOKEN}")
        assert (answer.status_code, answer.headers["location"]) == (303, f"{prefix}/tasks")
        assert f"Path={prefix};" in answer.headers["set-cookie"]
        links: set[str] = set()
        for path in (f"/tasks/{task}", "/"):
            page = (await visitor.get(prefix + path)).text
            links |= set(re.findall(r'(?:href|src|action)="([^"#]+)', page))
        assert len(links) > 15 and all(link.startswith(f"{prefix}/") for link in links), links
        for link in links:
            if not re.search(r"/(retry|delete|cancel|theme|logout)$", link):
                assert (await visitor.get(link.replace("&amp;", "&"))).status_code == 200, link
        live = re.search(r'data-init="@get\(&#34;(.*?)&#34;', page)
        assert live
        stream = await visitor.get(live[1].replace("&amp;", "&") + "&once=1")
        assert stream.status_code == 200
        answer = await visitor.post(
            f"{prefix}/tasks/{task}/retry", data={"_token": form_token(page)}, headers=SAME
        )
        assert answer.headers["location"] == f"{prefix}/tasks/{task}?notice=retried"
        assert await task.result(60) == 3
        assert (await visitor.get(f"{prefix}/no/such/page")).status_code == 404
