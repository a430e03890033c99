"""The defaults, as constants: what holds where code, environment and file say nothing.

Each is the environment variable of the same name without its prefix. A program may change
them before it loads a configuration. Lengths of time are seconds, sizes are bytes; None
means "none" or "no limit" where the variable's meaning says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

BASE_DIR: Path = Path(".omniq")
NAMESPACE: str = "default"

STORAGE_TYPE: str = "sqlite"
STORAGE_URL: str | None = None
STORAGE_OPTIONS: dict[str, Any] = {}
OBSTORE_URI: str | None = None
DURABILITY: str = "normal"
TASK_QUEUE_TYPE: str | None = None
TASK_QUEUE_URL: str | None = None
RESULT_STORAGE_TYPE: str | None = None
RESULT_STORAGE_URL: str | None = None
EVENT_STORAGE_TYPE: str | None = None
EVENT_STORAGE_URL: str | None = None
SIGNING_KEYS: tuple[tuple[str, str], ...] = ()

DEFAULT_QUEUE: str = "default"
DEFAULT_PRIORITY: int = 0
TASK_TIMEOUT: float | None = None
TASK_TTL: float | None = None
RETRY_ATTEMPTS: int = 3
RETRY_DELAY: float = 1.0
RESULT_TTL: float | None = 86_400.0
MAX_PAYLOAD: int = 1_048_576

EMBEDDED: bool = True
DEFAULT_WORKER: str | None = None
MAX_WORKERS: int | None = None
ASYNC_WORKERS: int = 100
THREAD_WORKERS: int = 10
PROCESS_WORKERS: int | None = None
GEVENT_WORKERS: int = 100
QUEUES: tuple[str, ...] = ()
LEASE: float = 30.0
GRACE: float = 10.0
MAX_LOSSES: int = 3

EVENT_LEVEL: str = "INFO"
EVENT_RETENTION: float = 7 * 86_400.0
EVENT_SPOOL_LIMIT: int = 64 * 1024 * 1024
HISTORY: float = 86_400.0
DEAD_LETTERS: float = 14 * 86_400.0

DASHBOARD_ENABLED: bool = True
DASHBOARD_HOST: str = "127.0.0.1"
DASHBOARD_PORT: int = 8778
DASHBOARD_PATH: str = "/omniq"
DASHBOARD_TOKEN: str | None = None
DASHBOARD_READ_ONLY: bool = False
DASHBOARD_LIVE: str = "stream"
DASHBOARD_BUNDLE: str | None = None

LOG_LEVEL: str = "INFO"
DISABLE_LOGGING: bool = False
COMPONENT_LOG_LEVELS: dict[str, str] = {}
