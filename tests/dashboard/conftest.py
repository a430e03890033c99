"""Fixtures of the dashboard's tests; each runs over a real queue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from omniq import AsyncOmniQ
from omniq.dashboard import DashboardApp
from tests.dashboard.kit import a_queue, client, sign_in


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[AsyncOmniQ]:
    async with a_queue(tmp_path) as queue:
        yield queue


@pytest.fixture
def app(queue: AsyncOmniQ) -> DashboardApp:
    return DashboardApp(queue)


@pytest.fixture
async def stranger(app: DashboardApp) -> AsyncIterator[httpx.AsyncClient]:
    async with client(app) as browser:
        yield browser


@pytest.fixture
async def browser(app: DashboardApp) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who is signed in."""
    async with client(app) as browser:
        await sign_in(browser)
        yield browser
