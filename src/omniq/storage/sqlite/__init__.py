"""SQLite: the embedded default. One file, many processes of one machine."""

from omniq.storage.sqlite.apply import apply_units
from omniq.storage.sqlite.foreign import ForeignConnection
from omniq.storage.sqlite.guest import GuestSQLiteStorage
from omniq.storage.sqlite.storage import AsyncSQLiteStorage

__all__ = ["AsyncSQLiteStorage", "ForeignConnection", "GuestSQLiteStorage", "apply_units"]
