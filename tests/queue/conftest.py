"""Results at a place of their own, beside tasks in memory or SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from omniq.clock import ManualClock
from tests.queue.apart import Apart, apart


@pytest.fixture(params=["memory", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture
async def places(kind: str, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Apart]:
    places = apart(kind, tmp_path, clock)
    await places.stores.open()
    yield places
    await places.stores.close()


@pytest_asyncio.fixture
async def only_tasks(kind: str, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Apart]:
    places = apart(kind, tmp_path, clock, only_tasks=True)
    await places.stores.open()
    yield places
    await places.stores.close()
