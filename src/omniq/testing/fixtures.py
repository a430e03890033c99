"""The queue behind the fixture `omniq_queue`."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from omniq.core import AsyncOmniQ
from omniq.errors import ConfigError

PATIENCE = 5.0


class TestQueue(AsyncOmniQ):
    """A queue that can be closed from outside of the loop it was used in.

    A test's loop belongs to a plugin of its own, which ends it before or after this fixture,
    or keeps it for the whole session.
    """

    __test__ = False
    _used_in: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        try:
            self._used_in = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError(
                "OmniQ runs on asyncio, and this test runs on another loop: parametrize the "
                "fixture anyio_backend with 'asyncio' only"
            ) from None
        await super().open()

    def close_anywhere(self) -> None:
        """Close it, unless the end of its loop has done so."""
        loop = self._used_in
        if loop is None or loop.is_closed():
            return
        if loop.is_running():  # in another thread: a test client's
            with suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(self.close(), loop).result(PATIENCE)
        else:
            loop.run_until_complete(self.close())
