"""The port: what a place must be able to do. Two things only: apply a batch of units, hand
out a batch of work. Every rule lives above it, every byte below it stays closed.

The contract, in full (each sentence is a test in tests/conformance):

* A unit with its riders is atomic. A batch is only ordered: it may be cut between units, and
  one refused unit harms no other. A batch holds at most one unit per row id.
* A refused rider is reported in the receipt and does not undo its unit.
* Everything may be sent twice. A known id answers ALREADY, a Move whose fence no longer
  matches is REFUSED, a claim with a known request gives the rows it gave before.
* Order is always (-priority, run_at, id) within a queue and lane.
* A claim raises `epoch`, sets `claim` to the request id, `owner`, `started_at`, RUNNING and
  `attempt + 1`, and renews the owner's lease. It promotes due SCHEDULED rows first, skips
  queues with a live doc ("pause", queue) and rows past `expires_at`.
* Chores are RUNNING rows of owners whose lease ran out (Flag.LOST, `losses + 1`; with their
  cancel flag as it was), rows past `expires_at` in a status before RUNNING
  (Flag.EXPIRED; the rules clear `expires_at` on a retry), and WAITING rows a parent of which failed them (Flag.STRANDED). They are
  handed out RUNNING under the claim (epoch + 1, `attempt` unchanged), to be settled by a Move.
  A row handed out with flags keeps them until it leaves RUNNING.
* A row leaves WAITING when its last open parent ends as needed; in the same commit.
* Edges stay until the child ends: until then its parents' rows and results are not swept.
* A unique key is taken by the insert and freed as `Unique.free` says. Past `Unique.until`
  anybody may take it.
* Reads do not show what is past its `keep_until` (rows), `until` (results), `expires_at`
  (docs); `sweep` removes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, ClassVar, Self

from msgspec import Struct

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.errors import ConfigError
from omniq.models.filters import (
    Batch,
    Claim,
    EventFilter,
    EventPage,
    Held,
    HeldTask,
    Page,
    QueueCount,
    TaskFilter,
)
from omniq.models.row import Doc, Ms, ResultRow, TaskRow
from omniq.models.units import Receipt, Unit

Put = Callable[[Sequence[Unit]], Awaitable[Receipt]]
"""Applies units in a transaction that somebody else has begun."""
MakeCall = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Makes a blocking call in the thread to which what it uses belongs."""


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a place can do, so that callers and tests need not ask for its name."""

    push: bool
    """Waiters are woken by the place itself, not by a poll."""
    multiprocess: bool
    """Several processes may use it at once."""
    local: bool
    """It lives on this machine only, so a key file made here is enough to trust it."""
    durability: str
    """What survives: "none" (ends with the process), "process", "power" or "replicated"."""
    overlaps: bool = True
    """It works beside this process, so that a worker can run tasks while a trip is under way."""
    unit_rows: int = 500
    """How many children one unit releases at once; the rest go on in `sweep`."""


class Ear(ABC):
    """Listens for topics: register, then read, then wait. A signal sticks until it is read.

    Topics: `queue:NAME` (work became ready), `inbox:ID` (a task of that client ended),
    `owner:ID` (a cancel for that worker), `docs:KIND`, `events`, `tasks` (any row changed).
    """

    @abstractmethod
    def add(self, topic: str) -> None:
        """Listen for one more topic."""

    @abstractmethod
    def discard(self, topic: str) -> None:
        """Stop listening for a topic."""

    @abstractmethod
    async def wait(self, timeout: float | None = None) -> set[str]:
        """The topics signalled since the last call; waits up to `timeout` seconds for one.

        May wake early with topics in which nothing new is found.
        """

    async def __aenter__(self) -> Self:
        return self

    @abstractmethod
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class _Place(ABC):
    """What the three roles share: a connection that is opened and closed."""

    capabilities: ClassVar[Capabilities]
    clock: Clock

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock

    @abstractmethod
    async def open(self) -> None:
        """Connect, migrate, and say where and how durable in one log line. Again: no effect."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of everything. Again: no effect."""

    @abstractmethod
    def twin(self) -> Self:
        """A second, unopened connection to the same place, for another thread and loop."""

    @abstractmethod
    def describe(self) -> str:
        """Where this is, in words for people, without credentials."""

    def exists(self) -> bool:
        """Whether `open` would find this place; False: it would make it."""
        return True

    @abstractmethod
    async def apply(self, units: Sequence[Unit]) -> Receipt:
        """Apply units in order, each atomically with its riders."""

    @abstractmethod
    async def sweep(self, limit: int = 1000) -> int:
        """Remove what is past its stamp and go on with unfinished releases; how many rows."""

    @abstractmethod
    def listen(self, topics: Iterable[str]) -> Ear:
        """Start to listen; use as `async with`."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class BaseTaskQueue(_Place):
    """The role of a place that keeps tasks and hands them out."""

    @abstractmethod
    async def claim(self, claim: Claim) -> Batch:
        """Hand out work, and chores."""

    async def exchange(self, units: Sequence[Unit], claim: Claim) -> tuple[Receipt, Batch]:
        """Settle and claim in one trip; a child released by a unit may be in the batch."""
        receipt = await self.apply(units)
        return receipt, await self.claim(claim)

    @abstractmethod
    async def extend(self, owner: str, lease: Ms, held: Sequence[HeldTask]) -> Held:
        """Renew an owner's lease, write the progress of its tasks, say what changed."""

    @abstractmethod
    async def get_tasks(self, ids: Sequence[str]) -> list[TaskRow]:
        """The rows that exist, cold fields included, in the order asked for."""

    @abstractmethod
    async def find_tasks(
        self, filter: TaskFilter, *, limit: int = 100, cursor: str | None = None
    ) -> Page:
        """A page of rows without cold fields but `preview`."""

    @abstractmethod
    async def count_tasks(self) -> list[QueueCount]:
        """Rows by queue and status."""

    @abstractmethod
    async def get_docs(
        self,
        kind: str,
        *,
        prefix: str = "",
        after: str = "",
        due_before: Ms | None = None,
        limit: int = 1000,
    ) -> list[Doc]:
        """Live docs of a kind by key, those behind `after` only; `due_before` is exclusive."""

    def join(self, connection: object, make_call: MakeCall) -> Put:
        """How new tasks go into the transaction that is open on somebody else's connection.

        They become visible with its commit; nothing here begins or ends it. Raises ConfigError
        for connections that lead elsewhere, and where no other program's transaction can reach.
        """
        raise ConfigError(
            f"connection={type(connection).__name__}: tasks can join a transaction where they are "
            f"kept in its own database, PostgreSQL or SQLite, but these are kept at "
            f"{self.describe()}. Leave connection out and enqueue after your commit"
        )


class BaseResultStorage(_Place):
    """The role of a place that keeps results."""

    @abstractmethod
    async def get_results(self, ids: Sequence[str]) -> list[ResultRow]:
        """The results that exist, in the order asked for."""


class BaseEventStorage(_Place):
    """The role of a place that keeps events."""

    @abstractmethod
    async def read_events(
        self, filter: EventFilter, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        """Events in the order they were stored, those behind the cursor `after`."""


class AsyncStorage(BaseTaskQueue, BaseResultStorage, BaseEventStorage):
    """A place that can do all three."""


BaseStorage = AsyncStorage
