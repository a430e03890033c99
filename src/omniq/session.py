"""What an open queue holds: the parts that belong to one event loop."""

from __future__ import annotations

import asyncio
import logging
from functools import cache
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from omniq.errors import ConfigError, ResultTimeout, StorageError
from omniq.models.config import OmniQConfig
from omniq.models.row import TaskRow
from omniq.models.task import Task
from omniq.models.units import Applied, Insert
from omniq.queue.answers import not_found
from omniq.queue.batcher import Answer, Batcher, answer_of, batches
from omniq.queue.engine import Engine, announcement
from omniq.queue.janitor import Janitor
from omniq.queue.stores import Stores
from omniq.queue.waiting import Ended, Waiter, why_late
from omniq.serialization import KeyRing, SerializationManager
from omniq.storage.base import Capabilities, MakeCall

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

log = logging.getLogger("omniq.queue")

ABREAST = 2
"""Full batches of new tasks under way together, where the place works beside this process."""
FLUSH = 10.0
"""Seconds a closing queue waits for what it has not sent yet."""


class Instead(Protocol):
    """Who runs tasks in the calls of those who enqueue them and wait for them."""

    async def stored(self, tasks: Sequence[Task], inserts: Sequence[Insert]) -> None:
        """These were just stored."""

    async def awaited(self, ids: Sequence[str]) -> None:
        """Somebody is about to wait for these, or (none) has put a task back in line."""


async def tell(
    instead: Instead, tasks: Sequence[Task], inserts: Sequence[Insert], answers: Sequence[Answer]
) -> None:
    """Tell who works in place of a worker which tasks were accepted."""
    taken = [n for n, answer in enumerate(answers) if answer.applied is not Applied.REFUSED]
    await instead.stored([tasks[n] for n in taken], [inserts[n] for n in taken])


class Lent(NamedTuple):
    """A caller's connection that may be used in the caller's thread only."""

    connection: object
    make_call: MakeCall


class Session:
    """Stores, batcher, waiter and janitor, opened and closed together.

    `left` is called when the loop shuts down (`asyncio.run` ends) although nobody closed
    the queue: programs need not call `close()`.
    """

    def __init__(
        self, engine: Engine, stores: Stores, *, left: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        self.engine, self.stores = engine, stores
        self.loop = asyncio.get_running_loop()
        overlaps = stores.tasks.capabilities.overlaps
        self.batcher = Batcher(stores.apply, abreast=ABREAST if overlaps else 1)
        self.waiter = Waiter(stores, engine.client)
        self.janitor = Janitor(stores)
        self.announced: set[str] = set()
        self._left = left
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.stores.open()
        self.janitor.start()
        self._keeper = asyncio.create_task(self._keep(), name="omniq-keeper")

    async def close(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None and keeper is not asyncio.current_task():
            keeper.cancel()
        await self.waiter.stop()
        await self.janitor.stop()
        try:
            async with asyncio.timeout(FLUSH):
                await self.batcher.flush()
        except (StorageError, TimeoutError) as error:
            log.warning("closing: %s", error)
        await self.stores.close()

    async def announce(self, queues: Iterable[str]) -> None:
        """Leave queues' names in the store, once, before the first insert."""
        for queue in set(queues) - self.announced:
            await self.batcher.put(announcement(queue))
            self.announced.add(queue)

    async def row(self, id: str) -> TaskRow:
        """A task's row. Raises TaskNotFound."""
        rows = await self.stores.tasks.get_tasks([str.__str__(id)])
        if not rows:
            raise not_found(str.__str__(id))
        return rows[0]

    async def wait(self, id: str, timeout: float | None) -> Ended | None:
        """Wait for a task's end. Raises ResultTimeout, which says why it is late."""
        if timeout is None:
            return await self.waiter.wait_for(id)
        if timeout <= 0:  # no time to be woken, but what has ended can be read
            row = await self.row(id)
            if row.status.final:
                return Ended(row, (await self.stores.read_results([row])).get(id))
        try:
            async with asyncio.timeout(timeout):
                return await self.waiter.wait_for(id)
        except TimeoutError:
            why = await why_late(self.stores, id)
            message = f"task {id} has not ended within {timeout:g} s: {why}"
            raise ResultTimeout(message, task_id=id) from None

    async def join(self, connection: object, inserts: Sequence[Insert]) -> list[Answer]:
        """Put tasks into the transaction that is open on a caller's connection."""
        if not isinstance(connection, Lent):
            connection = Lent(connection, _at_once)
        elif iscoroutinefunction(getattr(connection.connection, "execute", None)):
            kind = type(connection.connection).__name__
            raise ConfigError(
                f"connection={kind} is used with await, on the event loop it was opened on: "
                "enqueue with AsyncOmniQ there, or give a blocking connection here"
            )
        put = self.stores.tasks.join(*connection)
        # Names of queues go along every time: an earlier transaction may have been rolled back.
        names = [announcement(name) for name in dict.fromkeys(i.row.queue for i in inserts)]
        answers: list[Answer] = []
        for batch in batches([*names, *inserts]):
            receipt = await put(batch)
            answers += [answer_of(receipt, n) for n in range(len(batch))]
        return answers[len(names) :]

    async def _keep(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self._keeper is not None:  # not by close(): the loop itself shuts down
                await self._left()
            raise


async def _at_once(call: Callable[[], Any]) -> Any:
    return call()


def manager_for(config: OmniQConfig, *places: Capabilities) -> SerializationManager:
    """The serializers with the keys that fit the places of tasks and results.

    Configured keys win. Places of this process alone have a key that ends with it, those of
    this machine share a key file in the base directory; others get no key, and so no dill.
    """
    limit = config.tasks.max_payload
    if config.signing_keys:
        return SerializationManager(KeyRing.from_setting(config.signing_keys), limit=limit)
    if not any(c.multiprocess for c in places):
        return SerializationManager(_process_keys(), limit=limit)
    if all(c.local for c in places):
        return SerializationManager(KeyRing.local(config.base_dir), limit=limit)
    return SerializationManager(None, limit=limit)


@cache
def _process_keys() -> KeyRing:
    return KeyRing.ephemeral()
