"""NATS JetStream: the commit log in a stream, large values in an object store."""

from omniq.storage.nats.storage import AsyncNATSStorage

__all__ = ["AsyncNATSStorage"]
