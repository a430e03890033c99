"""Waiting for what nobody signals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(true: Callable[[], object], *, patience: float = 20) -> None:
    """Wait until `true()` is; TimeoutError after `patience` seconds."""
    async with asyncio.timeout(patience):
        while True:
            if true():
                return
            await asyncio.sleep(0.001)
