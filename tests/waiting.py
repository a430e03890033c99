"""Waiting for what nobody signals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(true: Callable[[], object], *, patience: float = 60) -> None:
    """Wait until `true()` is; TimeoutError after `patience` seconds."""
    async with asyncio.timeout(patience):
        while True:
            if true():
                return
            await asyncio.sleep(0.001)


def blocking_until(true: Callable[[], object], *, patience: float = 60) -> None:
    """The same where nothing is awaited."""
    end = time.monotonic() + patience
    while not true():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.001)
