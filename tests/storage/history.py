"""Random histories of a place, and all that its tables hold, derived parts included."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from omniq.models import (
    Applied,
    Dep,
    Insert,
    Move,
    Patch,
    PutDoc,
    PutEvents,
    PutResult,
    Status,
    TaskRow,
    Unique,
)
from omniq.models.filters import HeldTask
from omniq.models.row import Ms
from omniq.storage.log.engine import LogEngine
from omniq.storage.tables import handout
from omniq.storage.tables.decide import Draft
from omniq.storage.tables.index import LazyHeap
from omniq.storage.tables.state import Line, State
from tests.conformance import kit

HEAPS = ("expiring", "leaving", "fading", "freeing", "lapsing", "dimming")


def contents(state: State, now: Ms = kit.START) -> dict[str, Any]:
    """Everything tables know at `now`, in a form that two of them can be compared by."""
    found: dict[str, Any] = {}

    def ready(line: Line) -> list[str]:
        # A claim takes expired rows out of its index; who never claimed still has them.
        rows = [state.rows[rank[2]] for rank in line.ready.walk()]
        return [r.id for r in rows if r.expires_at is None or r.expires_at > now]

    for name, value in vars(state).items():
        if isinstance(value, LazyHeap):
            found[name] = list(value.walk())
        elif name == "ids":
            found[name] = [id for id in value if id in state.rows]
        elif name == "counts":
            found[name] = state.tallies()
        elif name == "lines":
            lines = {key: (ready(v), list(v.later.walk())) for key, v in value.items()}
            found[name] = {key: both for key, both in lines.items() if any(both)}
        elif name in ("docs", "keys"):
            found[name] = {kind: here for kind, here in value.items() if here}
        elif name in ("running", "open_children", "children"):
            found[name] = {key: sorted(ids) for key, ids in value.items()}
        else:
            found[name] = value
    return found


class History:
    """Does what clients do, at random, on an engine."""

    def __init__(self, seed: int, engine: LogEngine, advance: Callable[[float], None]) -> None:
        self.random = random.Random(seed)
        self.engine = engine
        self.advance = advance
        self.known: list[str] = []
        self.held: list[TaskRow] = []

    def step(self) -> None:
        """One commit, or some time."""
        steps = (self.insert, self.insert, self.claim, self.claim, self.settle, self.settle)
        rare = (self.heartbeat, self.cancel, self.replay, self.doc, self.other, self.sweep)
        self.random.choice(steps if self.random.random() < 0.75 else rare)()
        if self.random.random() < 0.2:
            self.advance(self.random.choice((0.5, 5, 40)))

    def apply(self, *units: Any) -> list[Applied]:
        return self.engine.commit(lambda draft: draft.apply(units)).outcome

    def insert(self) -> None:
        r, now = self.random, self.engine.clock.now()
        new = kit.row(
            queue=r.choice("ab"),
            at=now,
            run_at=now + r.choice((0, 0, 0, 7000)),
            priority=r.choice((0, 0, 1)),
            expires_at=r.choice((None, None, now + 20_000)),
            unique=r.choice((None, None, Unique("u"), Unique("v", now + 9000, "time"))),
            reply="me",
        )
        deps = tuple(
            Dep(r.choice(self.known), r.choice(("success", "end")), "done")
            for _ in range(r.choice((0, 0, 1, 2)) if self.known else 0)
        )
        told = kit.event(new.id, at=now, keep_until=now + 30_000, data={"by": "x"})
        if self.apply(Insert(new, deps, (told,))) == [Applied.APPLIED]:
            self.known.append(new.id)

    def claim(self) -> None:
        asked = kit.claim(
            self.random.choice(("w1", "w2")), queues=("b", "a"), limit=3, lease=30_000, chores=2
        )
        batch = self.engine.commit(lambda draft: handout.claim(draft, asked))
        self.held += batch.tasks + batch.chores

    def settle(self) -> None:
        r, now = self.random, self.engine.clock.now()
        asked = kit.claim("w1", queues=("a", "b"), limit=2)
        units: list[Move] = []
        for _ in range(min(3, len(self.held))):
            task = self.held.pop(r.randrange(len(self.held)))
            keep: Patch = {"finished_at": now, "keep_until": now + 60_000}
            told = (kit.event(task.id, 1, epoch=task.epoch, at=now),)
            units.append(
                r.choice(
                    (
                        kit.finish(task, b"v", until=now + 40_000, patch=keep, events=told),
                        kit.fail(task, keep, spawn=(kit.insert(task.id, at=now),)),
                        kit.retry(task, now + r.choice((0, 5000))),
                    )
                )
            )

        def decide(draft: Draft) -> list[TaskRow]:
            draft.apply(units)
            return handout.claim(draft, asked).tasks

        self.held += self.engine.commit(decide)

    def heartbeat(self) -> None:
        mine = [HeldTask(t.id, t.epoch, t.claim or "", b"1") for t in self.held if t.owner == "w1"]
        self.engine.commit(lambda draft: handout.extend(draft, "w1", 30_000, mine))

    def cancel(self) -> None:
        if self.known:
            self.apply(kit.cancel(self.random.choice(self.known)))

    def replay(self) -> None:
        if self.known:
            self.apply(kit.replay(self.random.choice(self.known), {"keep_until": None}))

    def doc(self) -> None:
        now = self.engine.clock.now()
        value = self.random.choice((b"1", None))
        self.apply(PutDoc(kind="k", key=self.random.choice("xyz"), value=value))
        self.apply(PutDoc(kind="pause", key="b", value=b"", expires_at=now + 3000))

    def other(self) -> None:
        now = self.engine.clock.now()
        self.apply(
            PutResult(kit.task_id(now), 1, b"far", now + 10_000),
            PutEvents((kit.event("worker:w1", self.random.randrange(99)),)),
        )

    def sweep(self) -> None:
        self.engine.commit(lambda draft: handout.sweep(draft, 20))


def statuses(state: State) -> set[Status]:
    return {row.status for row in state.rows.values()}
