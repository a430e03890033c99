"""PostgreSQL: many processes of many machines, by asyncpg."""

from omniq.storage.postgres.storage import AsyncPostgresStorage

__all__ = ["AsyncPostgresStorage"]
