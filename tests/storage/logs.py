"""Logs made of a dict, which can be made to answer late, wrongly or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

from omniq.errors import StorageUnavailable
from omniq.models.row import Ms
from omniq.storage.durability import Promise
from omniq.storage.log.port import Log, Manners
from omniq.storage.log.storage import AsyncLogStorage
from omniq.storage.tables.segment import Segment, decode


class DictPlace:
    """What several logs share, as several processes share a directory."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.segments: dict[int, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.ears: list[Callable[[], None]] = []

    def decoded(self) -> list[Segment]:
        return [decode(data) for _, data in sorted(self.segments.items())]


class DictLog:
    """One process's way to a place. `before` and `after` are called around every put."""

    def __init__(
        self, place: DictPlace | None = None, manners: Manners | None = None, tells: bool = False
    ) -> None:
        self.place = place or DictPlace()
        self.manners = manners or Manners()
        self.tells = tells
        self.before: Callable[[int], None] = lambda number: None
        self.after: Callable[[int], None] = lambda number: None
        self.calls: list[str] = []

    def open(self) -> None: ...

    def close(self) -> None: ...

    def put(self, number: int, data: bytes) -> bool:
        self.before(number)
        with self.place.lock:
            created = number not in self.place.segments
            if created:
                self.place.segments[number] = data
        self.after(number)
        for tell in self.place.ears if created else ():
            tell()
        return created

    def read_on(self, number: int) -> Sequence[bytes]:
        found: list[bytes] = []
        with self.place.lock:
            while (data := self.place.segments.get(number + len(found))) is not None:
                found.append(data)
        return found

    def first(self) -> int:
        with self.place.lock:
            return min(self.place.segments, default=1)

    def cut(self, before: int) -> None:
        with self.place.lock:
            newest = max(self.place.segments, default=0)
            for number in [n for n in self.place.segments if n < min(before, newest)]:
                del self.place.segments[number]

    def keep(self, name: str, data: bytes) -> bool:
        self.calls.append(f"keep {name}")
        with self.place.lock:
            return self.place.objects.setdefault(name, data) is data

    def replace(self, name: str, data: bytes) -> None:
        self.calls.append(f"replace {name}")
        self.place.objects[name] = data

    def fetch(self, name: str, offset: int = 0, length: int | None = None) -> bytes | None:
        self.calls.append(f"fetch {name}")
        data = self.place.objects.get(name)
        if data is None:
            return None
        return data[offset:] if length is None else data[offset : offset + length]

    def names(self, prefix: str) -> list[str]:
        self.calls.append(f"names {prefix}")
        with self.place.lock:
            return sorted(name for name in self.place.objects if name.startswith(prefix))

    def drop(self, names: Iterable[str]) -> None:
        for name in names:
            self.place.objects.pop(name, None)

    def now(self) -> Ms | None:
        return None

    def follow(self, tell: Callable[[], None]) -> bool:
        if self.tells:
            self.place.ears.append(tell)
        return self.tells

    def turn(self) -> AbstractContextManager[None]:
        return nullcontext()


class DictStorage(AsyncLogStorage):
    """A storage on such a log."""

    def __init__(self, place: DictPlace, *, log: DictLog | None = None, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.place = place
        self.dict_log = log

    def _log(self) -> Log:
        return self.dict_log or DictLog(self.place)

    def _promise(self, log: Log) -> Promise:
        return Promise(self.describe(), "process")

    def describe(self) -> str:
        return "a dict"


def once(error: Exception | Callable[[], object]) -> Callable[[int], None]:
    """Does it at the first call only: raises an error, or calls."""
    left = [error]

    def act(number: int) -> None:
        if left:
            now = left.pop()
            if isinstance(now, Exception):
                raise now
            now()

    return act


def away(number: int) -> None:
    raise StorageUnavailable("away")
