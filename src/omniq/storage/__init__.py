"""Places that keep bytes: the port (`base`) and one module or package per place.

The blocking twins are offered here too; they are made in `omniq.sync`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniq._lazy import lazy

if TYPE_CHECKING:
    from omniq.storage.base import AsyncStorage as AsyncStorage
    from omniq.storage.base import BaseEventStorage as BaseEventStorage
    from omniq.storage.base import BaseResultStorage as BaseResultStorage
    from omniq.storage.base import BaseStorage as BaseStorage
    from omniq.storage.base import BaseTaskQueue as BaseTaskQueue
    from omniq.storage.base import Capabilities as Capabilities
    from omniq.storage.base import Ear as Ear
    from omniq.storage.file import AsyncFileStorage as AsyncFileStorage
    from omniq.storage.jsonl import AsyncJSONLEventStorage as AsyncJSONLEventStorage
    from omniq.storage.memory import AsyncMemoryStorage as AsyncMemoryStorage
    from omniq.storage.nats import AsyncNATSStorage as AsyncNATSStorage
    from omniq.storage.postgres import AsyncPostgresStorage as AsyncPostgresStorage
    from omniq.storage.redis import AsyncRedisStorage as AsyncRedisStorage
    from omniq.storage.sqlite import AsyncSQLiteStorage as AsyncSQLiteStorage

# Known to type checkers as Any where the home is above this room: see `omniq.sync`.
__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "AsyncFileStorage": "omniq.storage.file",
        "AsyncJSONLEventStorage": "omniq.storage.jsonl",
        "AsyncMemoryStorage": "omniq.storage.memory",
        "AsyncNATSStorage": "omniq.storage.nats",
        "AsyncPostgresStorage": "omniq.storage.postgres",
        "AsyncRedisStorage": "omniq.storage.redis",
        "AsyncSQLiteStorage": "omniq.storage.sqlite",
        "AsyncStorage": "omniq.storage.base",
        "BaseEventStorage": "omniq.storage.base",
        "BaseResultStorage": "omniq.storage.base",
        "BaseStorage": "omniq.storage.base",
        "BaseTaskQueue": "omniq.storage.base",
        "Capabilities": "omniq.storage.base",
        "Ear": "omniq.storage.base",
        "FileStorage": "omniq.sync",
        "JSONLEventStorage": "omniq.sync",
        "MemoryStorage": "omniq.sync",
        "NATSStorage": "omniq.sync",
        "PostgresStorage": "omniq.sync",
        "RedisStorage": "omniq.sync",
        "SQLiteStorage": "omniq.sync",
        "Storage": "omniq.sync",
    },
)
