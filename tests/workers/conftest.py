"""A queue on each embedded place: retries come at once, and no stall outlasts a lease."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from omniq import AsyncOmniQ


@pytest.fixture(params=["memory", "sqlite"])
async def queue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncOmniQ]:
    made = AsyncOmniQ(storage_type=request.param, base_dir=tmp_path, retry_delay=0.01, lease=60)
    async with made:
        yield made
