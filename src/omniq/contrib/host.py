"""Where a worker finds its queues: what a web app or a module offers it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, runtime_checkable

from omniq.contrib.report import Report
from omniq.contrib.role import acting_as
from omniq.core import AsyncOmniQ
from omniq.errors import ConfigError
from omniq.queue.answers import workers_of


class Host(Protocol):
    """Queues, and what must be running around them while a worker works."""

    @property
    def queues(self) -> Sequence[AsyncOmniQ]: ...

    def running(self) -> AbstractAsyncContextManager[None]:
        """Open everything, the queues included; entered and left in one task."""
        ...


@runtime_checkable
class OwnLoop(Protocol):
    """A host whose queues live on an event loop that is there already, in another thread."""

    def run(self, work: Callable[[], Coroutine[Any, Any, int]]) -> int:
        """Await `work()` on that loop, and give what it gives."""
        ...


class QueueHost:
    """A queue that stands by itself in a module."""

    def __init__(self, queue: AsyncOmniQ) -> None:
        self.queues = [queue]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        queue = self.queues[0]
        queue.embedded = False  # this process works already; enqueueing starts nothing more
        with acting_as("worker"):
            async with queue:
                yield


def shared(queue: AsyncOmniQ) -> bool:
    """Whether other processes can see what this queue keeps."""
    return all(place.capabilities.multiprocess for place in queue.stores.places)


def missing(queue: AsyncOmniQ) -> dict[str, str]:
    """The places that are not there yet -> what says where they are: a setting, or just "it"."""
    config, stores = queue.config, queue.stores
    found: dict[str, str] = {}
    for role, place, own in (
        ("task_queue", stores.tasks, config.task_queue),
        ("result_storage", stores.results, config.result_storage),
        ("event_storage", stores.events, config.event_storage),
    ):
        if not place.exists() and place.describe() not in found:
            said = own or config.storage
            name = "obstore_uri" if said.obstore_uri else "base_dir"
            if said.url is not None:
                name = f"{role if own else 'storage'}_url"
            made_by_hand = any(place is part for part in queue._parts)
            found[place.describe()] = "it" if made_by_hand else f"{name} (OMNIQ_{name.upper()})"
    return found


def refuse_missing(queue: AsyncOmniQ) -> None:
    """Refuse a queue whose place is not there yet: only looking at it must not make one."""
    for place, setting in missing(queue).items():
        raise ConfigError(
            f"no queue is kept at {place}: if {setting} is not misspelt, start the app that "
            "keeps its tasks there first"
        )


async def look_at(queue: AsyncOmniQ) -> Report:
    """How a queue stands, without opening it: that would make keys, and tables of a new one."""
    refuse_missing(queue)
    async with queue.stores.tasks as tasks:
        cards = workers_of(await tasks.get_docs("worker"))
        return Report.of(queue.describe(), await tasks.count_tasks(), cards)


def refuse_unshared(queue: AsyncOmniQ) -> None:
    """Refuse a queue whose tasks only the process that made it can see."""
    if not shared(queue):
        raise ConfigError(
            f"this queue keeps its tasks in {queue.describe()}, inside the process that "
            "enqueues: from here it looks empty and always will. Let that process work on its "
            "tasks itself (its embedded worker), or keep tasks where processes can share them, "
            "such as storage_type='sqlite'."
        )
