"""From a name or URL to a storage. Drivers are imported only for the place that is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.errors import ConfigError, UnknownOption, did_you_mean
from omniq.models.config import StorageConfig
from omniq.storage.base import AsyncStorage

TYPES = ("memory", "sqlite")
PLANNED = ("file", "postgres", "redis", "nats")
DATABASE = "omniq.db"
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://(.*)\Z")


def create_storage(
    config: StorageConfig, *, base_dir: Path = Path(".omniq"), clock: Clock = SYSTEM_CLOCK
) -> AsyncStorage:
    """The storage a configuration names, not yet opened.

    `sqlite` without a URL is `omniq.db` in `base_dir`. URLs: `memory://`, `sqlite:///rel.db`,
    `sqlite:////abs.db`.
    """
    kind, path = config.type, ""
    if config.url:
        match = _SCHEME.match(config.url)
        if match is None:
            raise ConfigError(
                f"storage URL {config.url!r} has no scheme: write sqlite:///path/to.db or memory://"
            )
        kind, path = match[1].lower(), match[2].removeprefix("/")
    if kind in PLANNED:
        raise ConfigError(f"storage type {kind!r} is not there yet: use one of {', '.join(TYPES)}")
    if kind not in TYPES:
        raise ConfigError(f"storage type {kind!r} is unknown{did_you_mean(kind, TYPES)}")
    if kind == "memory":
        from omniq.storage.memory import AsyncMemoryStorage

        _no_more(config.options, (), "memory")
        return AsyncMemoryStorage(clock=clock)

    from omniq.storage.sqlite import AsyncSQLiteStorage

    _no_more(config.options, ("synchronous",), "sqlite")
    return AsyncSQLiteStorage(
        Path(path) if path else base_dir / DATABASE, clock=clock, **config.options
    )


def _no_more(options: Mapping[str, Any], known: tuple[str, ...], kind: str) -> None:
    for name in options:
        if name not in known:
            raise UnknownOption(name, known, where=f"{kind} storage")
