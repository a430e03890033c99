"""A storage kept in a commit log; a place of its own needs a `Log`, a promise and a name."""

from __future__ import annotations

import asyncio
import copy
import os
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Self, TypeVar, cast

import msgspec

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.errors import ConfigError, StorageClosed, StorageError
from omniq.models.row import Ms
from omniq.storage.base import Capabilities, Ear
from omniq.storage.durability import Durability, Promise, check_durability, tell
from omniq.storage.hub import Hub
from omniq.storage.log.engine import LogEngine
from omniq.storage.log.face import Request, TablesStorage
from omniq.storage.log.port import Log
from omniq.storage.log.scribe import Look, Scribe
from omniq.storage.tables import Tables

T = TypeVar("T")

_NAMESPACE = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class AsyncLogStorage(TablesStorage):
    """Tasks, results and events in a commit log, for several processes and hosts.

    Each process holds the tables in memory. Its `twin` shares them, and the thread that
    reads and writes the log; another instance has its own.
    """

    capabilities = Capabilities(push=False, multiprocess=True, local=False, durability="process")

    def __init__(
        self,
        *,
        namespace: str = "default",
        clock: Clock = SYSTEM_CLOCK,
        durability: Durability = "normal",
    ) -> None:
        super().__init__(clock=clock)
        if not _NAMESPACE.match(namespace):
            raise ConfigError(
                f"namespace {namespace!r} is not allowed: use 1 to 64 of A-Z a-z 0-9 _ -"
            )
        check_durability(durability)
        self.namespace = namespace
        self._durability = durability
        self._is_open = False
        self._opening = asyncio.Lock()
        self._scribe = Scribe(self._engine)

    @abstractmethod
    def _log(self) -> Log:
        """A new log, not yet open. Called in the thread that will use it."""

    @abstractmethod
    def _promise(self, log: Log) -> Promise:
        """What the place, as it is set up, promises. Called in the same thread, once open."""

    async def open(self) -> None:
        async with self._opening:
            if self._is_open:
                return
            if self._scribe.pid != os.getpid():
                self._scribe = Scribe(self._engine)
            scribe = self._scribe
            scribe.join()
            try:
                promise = cast(Promise, await scribe.ask(lambda: self._promise(scribe.open().log)))
                tell(promise, self._durability)
            except BaseException:
                await self._let_go()
                raise
            self.capabilities = msgspec.structs.replace(  # type: ignore[misc]
                self.capabilities, durability=promise.grade
            )
            self._is_open = True

    async def close(self) -> None:
        async with self._opening:
            if self._is_open:
                self._is_open = False
                await self._let_go()

    async def _let_go(self) -> None:
        scribe = self._scribe
        if scribe.leave() and scribe.pid == os.getpid():
            await scribe.ask(scribe.close)

    def twin(self) -> Self:
        twin = copy.copy(self)
        twin._is_open, twin._opening = False, asyncio.Lock()
        return twin

    def listen(self, topics: Iterable[str]) -> Ear:
        scribe = self._at()
        ear = scribe.hub.ear(topics)
        scribe.tell()  # it may sleep because nobody listened so far
        return ear

    async def _commit(self, request: Request[T]) -> T:
        return cast(T, await self._at().ask(request))

    async def _look(self, ask: Callable[[Tables, Ms], T]) -> T:
        return cast(T, await self._at().ask(Look(ask)))

    def _engine(self, hub: Hub) -> LogEngine:
        return LogEngine(self._log(), clock=self.clock, hub=hub)

    def _at(self) -> Scribe:
        if not self._is_open:
            raise StorageClosed(f"{self.describe()} is not open: call open() first")
        if self._scribe.pid != os.getpid():
            raise StorageError(
                f"{self.describe()} was opened before this process was forked, and its thread "
                "did not come along: open a twin() of it here"
            )
        return self._scribe
