"""How many more tasks may be started before their workers leave."""

from __future__ import annotations

import asyncio

from omniq.errors import ConfigError


class Quota:
    """A number of runs, shared by the workers that are given it. A retry is another run."""

    def __init__(self, runs: int) -> None:
        if runs < 1:
            raise ConfigError(f"a worker that may run {runs} tasks has nothing to do: at least 1")
        self.runs = runs
        self._free = self._open = runs
        self._spent = asyncio.Event()

    def ask(self, wanted: int) -> int:
        """Set aside up to `wanted` runs for a claim, until `answered` tells what came of it."""
        given = min(wanted, self._free)
        self._free -= given
        return given

    def answered(self, asked: int, started: int) -> None:
        """A claim that was given `asked` runs started so many tasks."""
        self._free += asked - started
        self._open -= started
        if not self._open:
            self._spent.set()

    async def spent(self) -> None:
        """Wait until the last one has started."""
        await self._spent.wait()
