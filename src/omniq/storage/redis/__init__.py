"""Redis and Valkey: one server, a Sentinel's master, or the node of a cluster that has the slot."""

from omniq.storage.redis.storage import AsyncRedisStorage

__all__ = ["AsyncRedisStorage"]
