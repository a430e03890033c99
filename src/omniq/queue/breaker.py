"""Stops asking a place that does not answer, and finds out by itself when it does again."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from omniq.errors import ConfigError, StorageError, StorageUnavailable

T = TypeVar("T")

log = logging.getLogger("omniq.storage")

PATIENCE: Final = 10.0
"""Seconds after which a call counts as unanswered."""
FIRST: Final = 0.1
"""Seconds before the first look whether it is back; each pause doubles the one before."""
LONGEST: Final = 5.0

DOWN: Final = (StorageUnavailable, ConfigError, TimeoutError)
"""How a place fails that may work again, though perhaps not before somebody mends a setting."""


class Breaker:
    """Guards calls to one place.

    The first call that fails costs its time, those after it fail at once. Meanwhile `probe` is
    tried in the background; when it goes through, `catch_up` is run and the place is up again.
    Both changes are logged, once each. `meanwhile` says what becomes of the work until then.
    """

    def __init__(
        self,
        what: str,
        *,
        meanwhile: str,
        probe: Callable[[], Awaitable[object]],
        catch_up: Callable[[], Awaitable[None]],
        patience: float = PATIENCE,
    ) -> None:
        self.up = True
        self._what, self._meanwhile, self._patience = what, meanwhile, patience
        self._probe, self._catch_up = probe, catch_up
        self._why = ""
        self._since: float | None = None
        self._healing: asyncio.Task[None] | None = None
        self._back = asyncio.Event()

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call the place; StorageUnavailable at once while it is down."""
        if not self.up:
            raise StorageUnavailable(self.told)
        try:
            async with asyncio.timeout(self._patience):
                return await call()
        except DOWN as error:
            self.fell(error)
            raise StorageUnavailable(self.told) from None

    async def open(self, connect: Callable[[], Awaitable[None]]) -> None:
        """Connect to the place; if it does not answer, a probe does so later."""
        try:
            async with asyncio.timeout(2 * self._patience):
                await connect()
        except (StorageUnavailable, TimeoutError) as error:
            self.fell(error)

    @property
    def told(self) -> str:
        """What is wrong, in words."""
        return f"{self._what} does not answer: {self._why}" if self._why else self._what

    def fell(self, error: BaseException) -> None:
        """It has just failed."""
        if isinstance(error, TimeoutError) and not isinstance(error, StorageError):
            self._why = f"no answer within {self._patience:g} s"
        else:
            self._why = str(error)
        if self._since is None:
            self._since = time.monotonic()
            log.warning("%s does not answer, %s: %s", self._what, self._meanwhile, self._why)
        self.heal(FIRST)

    def heal(self, pause: float = 0.0) -> None:
        """Let calls fail until a probe has gone through and what was missed is caught up."""
        self.up = False
        self._back.clear()
        if self._healing is None:
            self._healing = asyncio.create_task(self._heal(pause), name="omniq-breaker")

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is up; False: time is over."""
        if self.up:
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._back.wait()
        return self.up

    async def close(self) -> None:
        """Give up probing."""
        healing, self._healing = self._healing, None
        if healing is not None:
            healing.cancel()
            await asyncio.wait([healing])

    async def _heal(self, pause: float) -> None:
        while True:
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))
            pause = min(max(2 * pause, FIRST), LONGEST)
            try:
                async with asyncio.timeout(self._patience):
                    await self._probe()
                await self._catch_up()
            except (StorageError, ConfigError, TimeoutError, OSError) as error:
                if self._since is None:
                    self.fell(error)
                continue
            except Exception:
                log.exception("%s cannot be caught up with: a bug in OmniQ", self._what)
                continue
            break
        # Nothing is awaited between the end of the catching up and this.
        self.up, self._healing = True, None
        if self._since is not None:
            log.info("%s answers again, after %.1f s", self._what, time.monotonic() - self._since)
        self._since, self._why = None, ""
        self._back.set()
