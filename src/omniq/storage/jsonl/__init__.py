"""Events as JSON lines, one file a day, read by DuckDB."""

from omniq.storage.jsonl.storage import AsyncJSONLEventStorage

__all__ = ["AsyncJSONLEventStorage"]
