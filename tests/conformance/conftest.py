"""`storage` and `make_storage`: every test here runs once for each place and face."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from omniq.clock import ManualClock
from omniq.storage.base import AsyncStorage

from .places import FACES, PLACES, make

MakeStorage = Callable[[], Awaitable[AsyncStorage]]


@pytest.fixture(params=list(PLACES))
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture
async def make_storage(
    place: str, face: str, tmp_path: Path, clock: ManualClock
) -> AsyncIterator[MakeStorage]:
    """Each call opens one more client of the same place; all are closed at the end."""
    clients: list[AsyncStorage] = []
    async with AsyncExitStack() as stack:

        async def new_client() -> AsyncStorage:
            client = clients[0].twin() if clients else make(place, face, tmp_path, clock)
            clients.append(client)
            return await stack.enter_async_context(client)

        yield new_client


@pytest_asyncio.fixture
async def storage(make_storage: MakeStorage) -> AsyncStorage:
    """One open client of an empty place."""
    return await make_storage()
