"""The state machine: any sequence of units, claims, heartbeats and time, on two storages at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

from omniq.clock import Clock, ManualClock
from omniq.models import (
    Dep,
    Insert,
    Move,
    Patch,
    PutDoc,
    Status,
    TaskRow,
    Unique,
    Unit,
)
from omniq.models.filters import Batch, Claim, EventFilter, QueueCount, TaskFilter
from omniq.models.units import Receipt
from omniq.storage.base import AsyncStorage
from omniq.storage.tables import Tables

from . import kit
from .strategies import FAR, HALF, INSERT, LANES, LEASE, QUEUES
from .witness import Seen, Witness, accepted, differences

T = TypeVar("T")


class Machine(RuleBasedStateMachine):
    """What both sides have in common, and what is sent to them; subclasses add the rules."""

    new_storage: ClassVar[Callable[[Path, Clock], AsyncStorage]]
    """Gives one at a place of its own, not yet open."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.folder = TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.storage = type(self).new_storage(Path(self.folder.name), self.clock)
        self.tables = Tables()
        self.run(self.storage.open())
        self.witness = Witness()
        self.ids: list[str] = []
        self.handed: list[TaskRow] = []
        self.sent: Sequence[Unit] = ()
        self.asked: dict[str, Claim] = {}
        self.seen = self.look()

    def teardown(self) -> None:
        self.run(self.storage.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        self.folder.cleanup()

    # ---- both sides

    def both(self, method: str, *args: Any, **options: Any) -> tuple[Any, Any]:
        """The storage's answer and the tables'."""
        ours = self.run(getattr(self.storage, method)(*args, **options))
        theirs = getattr(self.tables, method)(*args, self.clock.now(), **options)
        return ours, theirs

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    def look(self) -> Seen:
        """Read everything from both sides, which must show the same."""
        self.ids = list(dict.fromkeys(self.ids))
        now = self.clock.now()
        questions: list[tuple[str, Any, dict[str, Any]]] = [
            ("get_tasks", (self.ids,), {}),
            ("find_tasks", (TaskFilter(),), {"limit": 10_000}),
            ("get_results", ([*self.ids, *FAR],), {}),
            ("get_docs", ("pause",), {}),
            ("get_docs", ("k",), {}),
            ("get_docs", ("k",), {"due_before": now + 3000}),
            ("read_events", (EventFilter(),), {"limit": 10_000}),
            ("count_tasks", (), {}),
        ]

        async def ask() -> list[Any]:
            return [await getattr(self.storage, m)(*args, **rest) for m, args, rest in questions]

        ours = self.run(ask())
        theirs = [getattr(self.tables, m)(*args, now, **rest) for m, args, rest in questions]
        ours[-1], theirs[-1] = _counted(ours[-1]), _counted(theirs[-1])
        for (method, *_), our, their in zip(questions, ours, theirs, strict=True):
            if method == "read_events":  # cursors are each storage's own
                our, their = our.events, their.events
            assert our == their, f"{method}: {differences(our, their)}"
        rows, found, results, pauses, docs, due, told, counts = ours
        assert due == [d for d in docs if d.due_at is not None and d.due_at < now + 3000]
        return Seen(
            rows={row.id: row for row in rows},
            found=[row.id for row in found.rows],
            results={result.id: result for result in results},
            docs=[*pauses, *docs],
            counts=counts,
            events=told.events,
        )

    def send(self, units: Sequence[Unit]) -> None:
        self.settled(units, *self.both("apply", units))

    def settled(self, units: Sequence[Unit], ours: Receipt, theirs: Receipt) -> None:
        """Two receipts say the same; what they say is written down."""
        assert ours.outcome == theirs.outcome
        assert ours.taken == theirs.taken
        assert ours.riders_refused == theirs.riders_refused
        # A queue may be woken for a row that was ready before, but never left asleep.
        assert ours.woken >= theirs.woken
        assert set(ours.stranded) == set(theirs.stranded)
        assert {n: set(m) for n, m in ours.missing.items()} == {
            n: set(m) for n, m in theirs.missing.items()
        }
        self.sent = units
        before = self.seen.rows
        new = [unit for unit in units if isinstance(unit, Insert)]
        riders = [spawn for unit in units for spawn in getattr(unit, "spawn", ())]
        self.ids += [unit.row.id for unit in [*new, *riders]]
        now = {row.id: row for row in self.run(self.storage.get_tasks(self.ids))}
        for unit in accepted(ours.outcome, units):
            self.witness.applied(unit, before.get(_about(unit)), now)
        for spawn in riders:
            self.witness.spawned(spawn, now, spawn.row.id in before)

    def took(self, asked: Claim, ours: Batch, theirs: Batch, *, again: bool = False) -> None:
        """Two batches are the same; a first one is checked on its own, too."""
        assert ours.tasks == theirs.tasks, differences(ours.tasks, theirs.tasks)
        chores = [sorted(side.chores, key=_id) for side in (ours, theirs)]
        assert chores[0] == chores[1], differences(*chores)
        assert ours.next_due == theirs.next_due
        self.seen = self.look()
        self.witness.handed([*ours.tasks, *ours.chores])
        if not again:
            self.witness.claimed(asked, ours, self.seen, self.clock.now())
        self.asked[asked.owner] = asked
        self.handed += [*ours.tasks, *ours.chores]

    @invariant()
    def all_is_well(self) -> None:
        self.seen = self.look()
        self.witness.check(self.seen, self.clock.now())

    @initialize(plain=st.lists(INSERT, min_size=2, max_size=4))
    def begin(self, plain: list[dict[str, Any]]) -> None:
        """Some rows, some of them running, so that the first steps have something to do."""
        busy = [kit.insert(queue=queue, lane=lane) for queue in QUEUES for lane in LANES]
        self.send([*busy, *map(self.new, plain), kit.insert(busy[0].row.id, queue="a")])
        asked = kit.claim("w1", queues=QUEUES, lanes=LANES[:1], limit=3, lease=LEASE)
        self.seen = self.look()
        self.took(asked, *self.both("claim", asked))

    # ---- what is sent

    def new(self, spec: dict[str, Any], *, parent: str | None = None) -> Insert:
        now = self.clock.now()
        deps: dict[str, Dep] = {} if parent is None else {parent: Dep(parent)}
        for pick, need, missing in spec["parents"]:
            known = self.ids and pick < 25
            id = self.ids[-1 - pick % len(self.ids)] if known else kit.task_id(now)
            deps.setdefault(id, Dep(id, need, missing))
        until = 60 if spec["free"] == "time" else spec["until"]
        key = spec["unique"]
        fields = {name: spec[name] for name in ("queue", "lane", "priority")}
        return kit.insert(
            *deps.values(),
            events=(),
            at=now,
            run_at=now + spec["later"] * 1000,
            expires_at=_stamp(now, spec["ttl"]),
            unique=key and Unique(key, _stamp(now, until), spec["free"]),
            reply="client",
            **fields,
        )

    def doc(self, spec: dict[str, Any], *spawn: Insert) -> PutDoc:
        now, (kind, key) = self.clock.now(), spec["name"]
        return PutDoc(
            kind=kind,
            key=key,
            value=spec["value"],
            expect=spec["expect"],
            due_at=_stamp(now, spec["due"]),
            expires_at=_stamp(now, spec["expires"]),
            spawn=spawn,
        )

    def ends(self, specs: list[dict[str, Any]], owner: str | None = None) -> list[Move]:
        """Several ends, of one row at most one; `owner` speaks of what it was given only."""
        units = [unit for spec in specs if (unit := self.end(spec, owner)) is not None]
        return list({unit.id: unit for unit in units}.values())

    def end(self, spec: dict[str, Any], owner: str | None = None) -> Move | None:
        """What a worker writes, of a task it holds or held."""
        rows = self.handed
        if not spec["stale"]:
            rows = [row for row in self.seen.rows.values() if row.status is Status.RUNNING]
        rows = [row for row in rows if owner in (None, row.owner)]
        if not rows:
            return None
        task, now, how = rows[-1 - spec["pick"] % len(rows)], self.clock.now(), spec["how"]
        keep: Patch = {"keep_until": _stamp(now, spec["keep"]), "finished_at": now}
        if how == "finish":
            value = f"{task.id}/{task.epoch}".encode()
            unit = kit.finish(task, value, until=_stamp(now, spec["keep"]), patch=keep)
        elif how == "fail":
            unit = kit.fail(task, keep | {"fault": "ValueError:1"})
        elif how in ("retry", "later"):
            unit = kit.retry(task, now + (0 if how == "retry" else 5000))
        elif how == "snooze":
            unit = kit.snooze(task, now + 3000)
        elif how == "progress":
            unit = kit.settle(task, None, {"progress": b"%d" % now})
        else:
            unit = kit.settle(task, Status[how.upper()], keep)
        spawn = () if spec["spawn"] is None else (self.new(spec["spawn"], parent=task.id),)
        docs = () if spec["doc"] is None else (self.doc(spec["doc"]),)
        told = (kit.event(task.id, spec["pick"] % 3, epoch=task.epoch, at=now),)
        fields = {name: getattr(unit, name) for name in unit.__struct_fields__}
        if unit.to is Status.READY:  # it was started in time, as the rules say
            fields["patch"] = unit.patch | {"expires_at": None}
        return Move(**fields | {"spawn": spawn, "docs": docs, "events": told})


def _counted(counts: list[QueueCount]) -> dict[tuple[str, Status], int]:
    return {(c.queue, c.status): c.count for c in counts if c.count}


def _about(unit: Unit) -> str:
    """The row a unit is about, if it is about one."""
    return unit.row.id if isinstance(unit, Insert) else getattr(unit, "id", "")


def _stamp(now: int, seconds: int | None) -> int | None:
    return None if seconds is None else now + seconds * 1000 + HALF


def _id(row: TaskRow) -> str:
    return row.id
