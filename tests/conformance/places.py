"""The places the contract is held against, and the faces they are reached through.

Drivers are imported where they are used: a process beside a test loads those of its own place.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast
from zlib import crc32

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.storage.base import AsyncStorage

from ..servers import s3
from .blocking import BlockingTwin

Face = Literal["async", "sync"]
BOTH: tuple[Face, ...] = ("async", "sync")


class Ground(NamedTuple):
    """Where in a place one test is alone. Plain text, so that another process can be told."""

    path: str
    """A folder of its own."""
    url: str
    """The place's server, if it has one."""
    namespace: str


class Place(NamedTuple):
    """A place: its blocking class's name, and how either class is made in a test."""

    storage: str
    make: Callable[[Callable[..., Any], Ground, Clock], Any]
    server: str | None = None
    """The fixture that gives its server's URL."""
    faces: tuple[Face, ...] = BOTH
    processes: bool = True
    """Several processes may use it at once; `capabilities.multiprocess` says the same."""
    shared: bool = True
    """Two that are made alike are at one place; else a second client must be a twin."""
    examples: int = 30
    """How many histories the state machine tries, a third of it through the blocking face."""
    empty: Callable[[str, str], None] | None = None
    """Empties a namespace at a URL for the next test; where making a new one costs too much."""
    cluster: bool = False
    """Held against the tests marked `clusters` only: several servers for a place that has one."""
    variant_of: str | None = None
    """The place whose storage this is, kept by another way. That place is held against everything;
    of what does not bear on the way, a variant of it takes its share only."""

    @property
    def unusual(self) -> bool:
        """Driver and engine are shown on every Python elsewhere; the server is no Python."""
        return self.cluster or self.variant_of is not None


def _memory(new: Callable[..., Any], ground: Ground, clock: Clock) -> Any:
    return new(clock=clock)


def _sqlite(new: Callable[..., Any], ground: Ground, clock: Clock) -> Any:
    return new(Path(ground.path) / "tasks.db", clock=clock)


def _served(new: Callable[..., Any], ground: Ground, clock: Clock) -> Any:
    return new(ground.url, namespace=ground.namespace, clock=clock)


def empty_postgres(url: str, namespace: str) -> None:
    """A schema of its own for each test would be made of a hundred files each time."""
    import psycopg
    from psycopg import sql

    schema = f"omniq_{namespace}"
    with psycopg.connect(url, autocommit=True) as db:
        found = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema])
        tables = [sql.Identifier(schema, name) for (name,) in found if name != "omniq_schema"]
        if tables:
            clear = sql.SQL("DELETE FROM {}")
            db.execute(sql.SQL("; ").join(clear.format(table) for table in tables))


def _redis_cluster(new: Callable[..., Any], ground: Ground, clock: Clock) -> Any:
    url = ground.url.replace("redis://", "redis+cluster://", 1)
    return new(url, namespace=ground.namespace, clock=clock)


def _nats_r3(new: Callable[..., Any], ground: Ground, clock: Clock) -> Any:
    return new(ground.url, namespace=ground.namespace, clock=clock, replicas=3)


def _file(new: Callable[..., Any], ground: Ground, clock: Clock) -> Any:
    return new(Path(ground.path) / "tasks", clock=clock)


def _file_obstore(new: Callable[..., Any], ground: Ground, clock: Clock) -> Any:
    return new(obstore_uri=f"file://{ground.path}/tasks", clock=clock)


def _file_s3(new: Callable[..., Any], ground: Ground, clock: Clock) -> Any:
    options = {
        "endpoint": ground.url,
        "region": s3.REGION,
        "access_key_id": s3.KEY,
        "secret_access_key": s3.SECRET,
        "allow_http": True,
    }
    where = f"s3://{s3.BUCKET}/{ground.namespace}"
    return new(obstore_uri=where, storage_options=options, clock=clock)


def _file_fsspec(new: Callable[..., Any], ground: Ground, clock: Clock) -> Any:
    from fsspec.implementations.local import LocalFileSystem

    return new(LocalFileSystem(), path=f"{ground.path}/tasks", clock=clock)


def _file_memory(new: Callable[..., Any], ground: Ground, clock: Clock) -> Any:
    return new(f"memory://{ground.namespace}", clock=clock)


def _file_s3fs(new: Callable[..., Any], ground: Ground, clock: Clock) -> Any:
    options = {
        "key": s3.KEY,
        "secret": s3.SECRET,
        "client_kwargs": {"endpoint_url": ground.url, "region_name": s3.REGION},
    }
    return new(f"s3://{s3.BUCKET}/{ground.namespace}", storage_options=options, clock=clock)


def _way(
    storage: str,
    make: Callable[[Callable[..., Any], Ground, Clock], Any],
    of: str,
    server: str | None = None,
    *,
    processes: bool = True,
) -> Place:
    """Another way to keep the storage of the place `of`."""
    return Place(storage, make, server, ("async",), processes=processes, examples=2, variant_of=of)


# One entry is all it takes to hold another storage against the contract.
PLACES: dict[str, Place] = {
    "memory": Place("MemoryStorage", _memory, processes=False, shared=False),
    "file": Place("FileStorage", _file),
    "sqlite": Place("SQLiteStorage", _sqlite),
    "postgres": Place(
        "PostgresStorage", _served, "postgres_url", examples=12, empty=empty_postgres
    ),
    "redis": Place("RedisStorage", _served, "redis_url"),
    "nats": Place("NATSStorage", _served, "nats_url", examples=12),
    # The same storages by other ways; what the blocking face adds was shown above.
    "file-obstore": _way("FileStorage", _file_obstore, "file"),
    "file-s3": _way("FileStorage", _file_s3, "file", "s3_server"),
    "file-fsspec": _way("FileStorage", _file_fsspec, "file"),
    "file-memory": _way("FileStorage", _file_memory, "file", processes=False),
    "file-s3fs": _way("FileStorage", _file_s3fs, "file", "s3_server"),
    "redis-cluster": Place("RedisStorage", _redis_cluster, "redis_cluster_url", cluster=True),
    "nats-r3": Place("NATSStorage", _nats_r3, "nats_cluster_url", cluster=True),
}


class Spot(NamedTuple):
    """One place through one face."""

    place: str
    face: Face

    def __str__(self) -> str:
        return f"{self.place}-{self.face}"

    def build(self, ground: Ground, clock: Clock = SYSTEM_CLOCK) -> Any:
        """The object a user of this face would have, with the usual clock or one of the test's."""
        place = PLACES[self.place]
        if self.face == "async":
            kind = getattr(importlib.import_module("omniq.storage"), f"Async{place.storage}")
        else:
            kind = getattr(importlib.import_module("omniq.sync"), place.storage)
        return place.make(kind, ground, clock)

    def new(self, ground: Ground, clock: Clock = SYSTEM_CLOCK) -> AsyncStorage:
        """The same, not yet open; the blocking face comes awaitable too."""
        built = self.build(ground, clock)
        return cast(AsyncStorage, built) if self.face == "async" else BlockingTwin(built, clock)


def spots(*, processes: bool = False, cluster: bool = False) -> list[Spot]:
    """Where a test is run: everywhere it can be."""
    return [
        Spot(name, face)
        for name, place in PLACES.items()
        for face in place.faces
        if (cluster or not place.cluster) and (place.processes or not processes)
    ]


def takes(spot: Spot, rule: str) -> bool:
    """Whether a variant takes this rule, which bears on no way in particular: one of them does."""
    of = PLACES[spot.place].variant_of
    if of is None:
        return True
    variants = [name for name, place in PLACES.items() if place.variant_of == of]
    return variants[crc32(rule.encode()) % len(variants)] == spot.place
