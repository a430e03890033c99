"""Tasks in the memory of this process: quick, watched by its own waiters, gone at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Self, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import MemoryStore

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.errors import StorageClosed
from omniq.models.row import Ms
from omniq.storage.base import Capabilities, Ear
from omniq.storage.durability import Durability, Promise, check_durability, tell
from omniq.storage.log.engine import LogEngine
from omniq.storage.log.face import Request, TablesStorage
from omniq.storage.log.port import Manners
from omniq.storage.tables import Tables

T = TypeVar("T")

_NO_LIMIT = 1 << 62


class AsyncMemoryStorage(TablesStorage):
    """Keeps everything in this process. A `twin` shares it, another instance has its own.

    What goes in is written down as bytes, and what comes out cannot be changed, just as with
    a place on disk.
    """

    capabilities = Capabilities(
        push=True, multiprocess=False, local=True, durability="none", overlaps=False
    )

    def __init__(
        self,
        *,
        namespace: str = "default",
        clock: Clock = SYSTEM_CLOCK,
        durability: Durability = "normal",
    ) -> None:
        super().__init__(clock=clock)
        check_durability(durability)
        self.namespace = namespace  # as everywhere, though each instance is a place of its own
        self._durability = durability
        self._engine = LogEngine(MemoryLog(), clock=clock)
        self._is_open = False

    async def open(self) -> None:
        tell(Promise(self.describe(), "none"), self._durability)
        self._is_open = True

    async def close(self) -> None:
        self._is_open = False

    def twin(self) -> Self:
        twin = type(self)(namespace=self.namespace, clock=self.clock, durability=self._durability)
        twin._engine = self._engine
        return twin

    def describe(self) -> str:
        return "memory of this process"

    def listen(self, topics: Iterable[str]) -> Ear:
        self._check_open()
        return self._engine.hub.ear(topics)

    async def _commit(self, request: Request[T]) -> T:
        self._check_open()
        return self._engine.commit(
            lambda draft: request.decide(draft, request.units), who=request.who
        )

    async def _look(self, ask: Callable[[Tables, Ms], T]) -> T:
        self._check_open()
        return self._engine.look(ask)

    def _check_open(self) -> None:
        if not self._is_open:
            raise StorageClosed(f"{self.describe()}: the storage is not open")


class MemoryLog:
    """Segments in obstore's memory store. One engine reads them, so what it played is cut."""

    manners = Manners(
        segment_bytes=_NO_LIMIT,
        inline_bytes=_NO_LIMIT,
        memory_bytes=_NO_LIMIT,
        checkpoints=False,
    )

    def __init__(self) -> None:
        self._store = MemoryStore()
        self._first = 1

    def open(self) -> None: ...

    def close(self) -> None: ...

    def put(self, number: int, data: bytes) -> bool:
        return self._create(_path(number), data)

    def read_on(self, number: int) -> Sequence[bytes]:
        data = self.fetch(_path(number))
        return () if data is None else (data,)

    def first(self) -> int:
        return self._first

    def cut(self, before: int) -> None:
        self.drop(_path(number) for number in range(self._first, before))
        self._first = max(self._first, before)

    def keep(self, name: str, data: bytes) -> bool:
        return self._create(name, data)

    def replace(self, name: str, data: bytes) -> None:
        obstore.put(self._store, name, data)

    def fetch(self, name: str, offset: int = 0, length: int | None = None) -> bytes | None:
        try:
            data = bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError:
            return None
        return data[offset:] if length is None else data[offset : offset + length]

    def names(self, prefix: str) -> list[str]:
        found = (meta["path"] for page in obstore.list(self._store) for meta in page)
        return sorted(name for name in found if name.startswith(prefix))

    def drop(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                obstore.delete(self._store, name)
            except FileNotFoundError:
                continue

    def now(self) -> Ms | None:
        return None

    def follow(self, tell: Callable[[], None]) -> bool:
        return False

    def turn(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _create(self, name: str, data: bytes) -> bool:
        try:
            obstore.put(self._store, name, data, mode="create")
        except AlreadyExistsError:
            return False
        return True


def _path(number: int) -> str:
    return f"log/{number:020d}"
