"""Composition: one place that gives the three roles to a queue.

AsyncOmniQ(backend=SQLiteBackend("tasks.db"))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omniq.backend.factory import create_storage
from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.models.config import StorageConfig
from omniq.storage.base import AsyncStorage

__all__ = ["Backend", "MemoryBackend", "SQLiteBackend", "create_storage"]


class Backend:
    """One connection to one place: tasks, results and events together.

    `source` is a name or a URL: `"memory"`, `"sqlite"`, `"sqlite:///tasks.db"`.
    """

    def __init__(
        self,
        source: str = "sqlite",
        *,
        base_dir: str | Path = ".omniq",
        clock: Clock = SYSTEM_CLOCK,
        **options: Any,
    ) -> None:
        url = source if "://" in source else None
        config = StorageConfig(type=source if url is None else "", url=url, options=options)
        self.storage: AsyncStorage = create_storage(config, base_dir=Path(base_dir), clock=clock)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.storage.describe()}>"


class MemoryBackend(Backend):
    """Tasks live and end with this process."""

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__("memory", clock=clock)


class SQLiteBackend(Backend):
    """A SQLite database file; without a path `omniq.db` in `base_dir`."""

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        base_dir: str | Path = ".omniq",
        clock: Clock = SYSTEM_CLOCK,
        **options: Any,
    ) -> None:
        source = "sqlite" if path is None else f"sqlite:///{Path(path)}"
        super().__init__(source, base_dir=base_dir, clock=clock, **options)
