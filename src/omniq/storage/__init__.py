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
    from omniq.storage.memory import AsyncMemoryStorage as AsyncMemoryStorage
    from omniq.storage.sqlite import AsyncSQLiteStorage as AsyncSQLiteStorage

# Known to type checkers as Any where the home is above this room: see `omniq.sync`.
__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "AsyncMemoryStorage": "omniq.storage.memory",
        "AsyncSQLiteStorage": "omniq.storage.sqlite",
        "AsyncStorage": "omniq.storage.base",
        "BaseEventStorage": "omniq.storage.base",
        "BaseResultStorage": "omniq.storage.base",
        "BaseStorage": "omniq.storage.base",
        "BaseTaskQueue": "omniq.storage.base",
        "Capabilities": "omniq.storage.base",
        "Ear": "omniq.storage.base",
        "MemoryStorage": "omniq.sync",
        "SQLiteStorage": "omniq.sync",
        "Storage": "omniq.sync",
    },
)
