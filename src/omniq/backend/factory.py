"""From a name or URL to a storage. Drivers are imported only for the place that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

from omniq.backend.places import PLACES, options_of
from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.config.places import EVENTS_ONLY, type_of
from omniq.errors import ConfigError, UnknownOption, did_you_mean
from omniq.models.config import StorageConfig
from omniq.storage.base import AsyncStorage, BaseEventStorage

BASE_DIR: Final = Path(".omniq")


class Common(TypedDict, total=False):
    """What holds for every place of a queue, unless the options of one say otherwise."""

    base_dir: Path
    clock: Clock
    namespace: str
    durability: str


def create_storage(config: StorageConfig, **common: Unpack[Common]) -> AsyncStorage:
    """The storage a configuration names, not yet opened.

    Without a URL: SQLite `omniq.db` and files `tasks` in `base_dir`, Redis and NATS on this
    machine at their usual ports, PostgreSQL where libpq's variables (PGHOST ...) say.
    """
    if config.type in EVENTS_ONLY or (config.url or "").startswith("jsonl:"):
        raise ConfigError("storage type 'jsonl' keeps events only: it can be event_storage_type")
    storage = _create(config, common)
    assert isinstance(storage, AsyncStorage)
    return storage


def create_event_storage(config: StorageConfig, **common: Unpack[Common]) -> BaseEventStorage:
    """The place for events a configuration names: any storage, or JSON lines (`jsonl`)."""
    storage = _create(config, common)
    assert isinstance(storage, BaseEventStorage)
    return storage


def make_storage(
    kind: str, where: tuple[Any, ...], options: Mapping[str, Any], *, clock: Clock = SYSTEM_CLOCK
) -> Any:
    """A storage of a type, made by its constructor; UnknownOption for what that does not know."""
    make = PLACES[kind].load()
    known = options_of(make)
    for name in options:
        if name not in known:
            raise UnknownOption(name, known, where=f"{kind} storage")
    return make(*where, clock=clock, **options)


def _create(config: StorageConfig, common: Common) -> object:
    kind, url, options = config.type, config.url, dict(config.options)
    if url:
        kind = type_of(url, None if kind == StorageConfig().type else kind or None)
    elif config.obstore_uri:
        kind, options = "file", options | {"obstore_uri": config.obstore_uri}
    place = PLACES.get(kind)
    if place is None:
        raise ConfigError(
            f"storage type {kind!r} is unknown{did_you_mean(kind, PLACES.keys() - EVENTS_ONLY)}"
        )
    if url:
        where, said = place.read(url)
        options = said | options
    else:
        where = () if config.obstore_uri else place.default(common.get("base_dir", BASE_DIR))
    for name in ("namespace", "durability"):
        if name in common:
            options.setdefault(name, common[name])
    return make_storage(kind, where, options, clock=common.get("clock", SYSTEM_CLOCK))
