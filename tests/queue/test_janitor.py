"""What a janitor says when it cannot sweep."""

from __future__ import annotations

import logging

import pytest

from omniq.errors import StorageError, StorageUnavailable
from omniq.queue.janitor import Janitor
from omniq.queue.stores import Stores
from omniq.storage.memory import AsyncMemoryStorage
from tests.waiting import until

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    ("error", "warned"),
    [(StorageUnavailable("gone for a walk"), False), (StorageError("disk full"), True)],
)
async def test_a_store_that_is_away_is_no_news_of_the_janitor(
    error: StorageError, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    tried = 0

    class Failing(AsyncMemoryStorage):
        async def sweep(self, limit: int = 1000) -> int:
            nonlocal tried
            tried += 1
            raise error

    janitor = Janitor(Stores(Failing()), interval=0.001)
    with caplog.at_level(logging.WARNING, logger="omniq.queue"):
        janitor.start()
        await until(lambda: tried > 3)
        await janitor.stop()
    assert ("sweep failed" in caplog.text) == warned
