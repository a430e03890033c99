"""SQLite: the embedded default. One file, many processes of one machine."""

from omniq.storage.sqlite.apply import apply_units
from omniq.storage.sqlite.storage import AsyncSQLiteStorage

__all__ = ["AsyncSQLiteStorage", "apply_units"]
