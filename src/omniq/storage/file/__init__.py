"""Files: local directories, object stores and fsspec's filesystems, all one commit log."""

from omniq.storage.file.storage import AsyncFileStorage

__all__ = ["AsyncFileStorage"]
