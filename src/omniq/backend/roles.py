"""Who keeps what: the three roles of one configuration, in as few places as it names."""

from __future__ import annotations

from omniq.backend.factory import Common, create_event_storage, create_storage
from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.config.places import EVENTS_ONLY
from omniq.models.config import OmniQConfig, StorageConfig
from omniq.queue.stores import Stores, spool_of
from omniq.storage.base import AsyncStorage, BaseEventStorage, BaseResultStorage, BaseTaskQueue


def create_stores(
    config: OmniQConfig,
    tasks: BaseTaskQueue | None = None,
    results: BaseResultStorage | None = None,
    events: BaseEventStorage | None = None,
    *,
    clock: Clock = SYSTEM_CLOCK,
) -> Stores:
    """The three roles: the storages given, else those the configuration names, unopened.

    Roles that name the same place share one connection, so that what concerns them is one
    commit; so does a role that names none with the tasks.
    """
    common = Common(
        base_dir=config.base_dir,
        clock=clock,
        namespace=config.namespace,
        durability=config.durability,
    )
    made: list[tuple[StorageConfig, AsyncStorage]] = []

    def at(place: StorageConfig) -> AsyncStorage:
        for known, storage in made:
            if known == place:
                return storage
        made.append((place, create_storage(place, **common)))
        return made[-1][1]

    if tasks is None:
        tasks = at(config.task_queue or config.storage)
    if results is None and config.result_storage is not None:
        results = at(config.result_storage)
    if events is None and (place := config.event_storage) is not None:
        alone = place.type in EVENTS_ONLY
        events = create_event_storage(place, **common) if alone else at(place)
    return Stores(tasks, results, events, spool=spool_of(config))
