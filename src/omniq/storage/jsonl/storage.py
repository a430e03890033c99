"""A place for events only: files that every tool can read."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.errors import ConfigError, StorageClosed, StorageError
from omniq.models.event import TaskEvent
from omniq.models.filters import EventFilter, EventPage
from omniq.models.units import Applied, PutEvents, Receipt, Unit
from omniq.storage.base import BaseEventStorage, Capabilities, Ear
from omniq.storage.durability import Promise, check_durability, tell
from omniq.storage.hub import Hub
from omniq.storage.jsonl.days import Days, explained
from omniq.storage.jsonl.duck import Duck

_POLL: Final = 0.5
"""Seconds between two looks for what other processes have added."""
_ELSE: Final = "Set event_storage_url (OMNIQ_EVENT_STORAGE_URL) to jsonl:///a/plain/path"


class AsyncJSONLEventStorage(BaseEventStorage):
    """Events as JSON lines in a directory, one file a day; any number of processes of a machine.

    `namespace` other than "default" is a directory in it. `durability="strict"` writes to the
    disk before it answers. A file goes when the last of its events is past its time. An event
    sent again is kept once as long as fewer than 100,000 others came in between.
    """

    capabilities = Capabilities(push=False, multiprocess=True, local=True, durability="process")

    def __init__(
        self,
        path: str | Path,
        *,
        namespace: str = "default",
        clock: Clock = SYSTEM_CLOCK,
        durability: Literal["normal", "strict"] = "normal",
    ) -> None:
        super().__init__(clock=clock)
        check_durability(durability)
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", namespace):
            raise ConfigError(
                f"namespace {namespace!r} is none: up to 64 letters, digits, - and _ are"
            )
        self._given = (path, namespace)
        self._folder = _checked(Path(path))
        if namespace != "default":
            self._folder /= namespace
        self._durability = durability
        strict = durability == "strict"
        self._days, self._duck = Days(self._folder, sync=strict), Duck(self._folder)
        self._hub = Hub()
        self._open = False
        if strict:
            self.capabilities = Capabilities(  # type: ignore[misc]
                push=False, multiprocess=True, local=True, durability="power"
            )

    async def open(self) -> None:
        if not self._open:
            await asyncio.to_thread(_prepare, self._folder)
            strict = self._durability == "strict"
            settings = "written to the disk at each event" if strict else "fsync left to the system"
            grade: Literal["power", "process"] = "power" if strict else "process"
            promise = Promise(self.describe(), grade, settings, keeps="Events")
            tell(promise, self._durability)
            self._open = True

    async def close(self) -> None:
        if self._open:
            self._open = False
            await asyncio.to_thread(self._duck.close)

    def twin(self) -> Self:
        path, namespace = self._given
        return type(self)(path, namespace=namespace, clock=self.clock, durability=self._durability)

    def describe(self) -> str:
        return f"JSON lines in {self._folder}"

    def exists(self) -> bool:
        return self._folder.is_dir()

    async def apply(self, units: Sequence[Unit]) -> Receipt:
        self._check()
        events: list[TaskEvent] = []
        for unit in units:
            if not isinstance(unit, PutEvents):
                raise StorageError(
                    f"{self.describe()} keep events only, not what {type(unit).__name__} brings"
                )
            events += unit.events
        if events and await asyncio.to_thread(
            explained, self._folder, lambda: self._days.append(events, self.clock.now())
        ):
            self._hub.signal(("events",))
        return Receipt(outcome=[Applied.APPLIED] * len(units))

    async def read_events(
        self, filter: EventFilter, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        self._check()
        behind = None if after is None else int(after)
        return await asyncio.to_thread(
            explained, self._folder, lambda: self._read(filter, behind, limit)
        )

    async def query(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows that one SELECT over the view `events` gives, in DuckDB's SQL.

        `time` is a timestamp (UTC), `data` JSON; `?` stand for `values`. Nothing can be changed
        and no other file be read.
        """
        self._check()
        return await asyncio.to_thread(
            self._duck.query, self._days.paths(), sql, values, self.clock.now()
        )

    async def sweep(self, limit: int = 1000) -> int:
        self._check()
        now = self.clock.now()
        gone: int = await asyncio.to_thread(explained, self._folder, lambda: self._days.sweep(now))
        return gone

    def listen(self, topics: Iterable[str]) -> Ear:
        return _LookingEar(self._hub.ear(topics), self._days)

    def _read(self, filter: EventFilter, after: int | None, limit: int) -> EventPage:
        days, newest = self._days, filter.newest_first
        last, now = days.last(), self.clock.now()
        low = 0 if newest or after is None else after
        high = min(last, after - 1) if newest and after is not None else last
        found: list[tuple[int, TaskEvent]] = []
        end = high
        paths = days.paths()
        firsts = [(days.first(path), path) for path in paths]
        known = [(first, path) for first, path in firsts if first is not None]
        spans: list[tuple[int, int, Path]] = []
        for at, (first, path) in enumerate(known):
            until = known[at + 1][0] - 1 if at + 1 < len(known) else last
            if first <= high and until > low:
                spans.append((first, until, path))
        for _first, _until, path in reversed(spans) if newest else spans:
            left = limit - len(found)
            if left <= 0:
                break
            found += self._duck.page(path, filter, after=low, to=high, limit=left, now=now)
        if len(found) >= limit and found:
            end = found[-1][0]
        elif newest:
            end = 0 if high else after or 0
        else:
            end = max(last, low)
        return EventPage(events=[event for _, event in found], cursor=str(end))

    def _check(self) -> None:
        if not self._open:
            raise StorageClosed(f"{self.describe()} are not open")


class _LookingEar(Ear):
    """Hears this process at once, and others by looking."""

    def __init__(self, inner: Ear, days: Days) -> None:
        self._inner, self._days = inner, days
        self._seen = days.sizes()

    def add(self, topic: str) -> None:
        self._inner.add(topic)

    def discard(self, topic: str) -> None:
        self._inner.discard(topic)

    async def wait(self, timeout: float | None = None) -> set[str]:
        loop = asyncio.get_running_loop()
        until = None if timeout is None else loop.time() + timeout
        while True:
            left = None if until is None else until - loop.time()
            pause = _POLL if left is None else min(_POLL, max(left, 0.0))
            heard = await self._inner.wait(pause)
            seen = self._days.sizes()
            if seen != self._seen:
                self._seen = seen
                return heard | {"events"}
            if heard or (left is not None and left <= _POLL):
                return heard

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._inner.__aexit__(kind, error, trace)


def _checked(path: Path) -> Path:
    text = str(path)
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise ConfigError(f"the directory {text!r} has control characters. {_ELSE}")
    if ".." in path.parts:
        raise ConfigError(f"the directory {text!r} goes up by '..'. {_ELSE}")
    return path.expanduser().absolute()


def _prepare(folder: Path) -> None:
    """Make the directory (0700, unseen by git) if it is missing, and see whether it can be used."""
    try:
        if not folder.exists():
            folder.mkdir(parents=True, mode=0o700, exist_ok=True)
            folder.joinpath(".gitignore").write_text("*\n", encoding="utf-8")
        os.close(os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise ConfigError(
            f"events cannot be kept in {folder}: {error.strerror}. {_ELSE} you may write to"
        ) from error
