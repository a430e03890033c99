"""Every storage against the reference tables, and both against what must always hold.

`HYPOTHESIS_PROFILE=hunt` looks for new examples; `--hypothesis-seed=N` repeats one of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from omniq.clock import Clock
from omniq.models import BEFORE_RUN, Patch, PutEvents, PutResult, Status
from omniq.models.filters import Claim, HeldTask, Slot
from omniq.storage.base import AsyncStorage

from . import kit
from .conftest import NewGround
from .machine import Machine
from .places import PLACES, Spot
from .strategies import CLAIM, DOC, FAR, HALF, INSERT, LEASE, OWNER, PICK, SETTLE

ENDED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED)
MOVABLE = (Status.SCHEDULED, Status.READY)


class Rules(Machine):
    """What may happen, in any order."""

    @rule(specs=st.lists(INSERT, min_size=1, max_size=4))
    def insert(self, specs: list[dict[str, Any]]) -> None:
        self.send([self.new(spec) for spec in specs])

    @rule(owner=OWNER, spec=CLAIM)
    def claim(self, owner: str, spec: dict[str, Any]) -> None:
        asked = self.ask(owner, spec)
        self.took(asked, *self.both("claim", asked))

    @rule(specs=st.lists(SETTLE, min_size=1, max_size=3))
    def settle(self, specs: list[dict[str, Any]]) -> None:
        self.send(self.ends(specs))

    @rule(owner=OWNER, specs=st.lists(SETTLE, max_size=3), spec=CLAIM)
    def exchange(self, owner: str, specs: list[dict[str, Any]], spec: dict[str, Any]) -> None:
        units, asked = self.ends(specs, owner), self.ask(owner, spec)
        ours, theirs = self.both("exchange", units, asked)
        self.settled(units, ours[0], theirs[0])
        self.took(asked, ours[1], theirs[1])

    @rule(owner=OWNER)
    def send_again(self, owner: str) -> None:
        self.send(self.sent)
        if asked := self.asked.get(owner):
            self.seen = self.look()
            self.took(asked, *self.both("claim", asked), again=True)

    @rule(pick=PICK, running=st.booleans())
    def cancel(self, pick: int, running: bool) -> None:
        ids = [
            row.id for row in self.seen.rows.values() if row.status is Status.RUNNING or not running
        ]
        if ids:
            self.send([kit.cancel(ids[-1 - pick % len(ids)])])

    @rule(what=st.sampled_from(("replay", "later", "move", "patch", "forget")), pick=PICK)
    def change(self, what: str, pick: int) -> None:
        over = what in ("replay", "later", "forget")
        ids = [id for id, row in self.seen.rows.items() if row.status.final == over]
        if not ids:
            return
        id, now = ids[-1 - pick % len(ids)], self.clock.now()
        if what in ("replay", "later"):
            at = now + (8000 if what == "later" else 0)
            unit = kit.replay(id, {"attempt": 0, "run_at": at, "keep_until": None})
        elif what == "forget":
            unit = kit.change(id, {"keep_until": now + HALF}, expect=ENDED)
        elif what == "move":
            patch: Patch = {"run_at": now + pick * 500}
            unit = kit.change(id, patch, to=Status.READY, expect=MOVABLE)
        else:
            unit = kit.change(id, {"priority": pick % 4, "tags": ("t",)}, expect=BEFORE_RUN)
        self.send([unit])

    @rule(owner=OWNER, mask=st.integers(0, 7), told=st.booleans(), stale=PICK)
    def extend(self, owner: str, mask: int, told: bool, stale: int) -> None:
        mine = [
            kit.held(row, b"beat" if told else None)
            for n, row in enumerate(self.seen.rows.values())
            if row.status is Status.RUNNING and row.owner == owner and mask != n % 8
        ]
        known = {task.id for task in mine}
        if self.handed and (row := self.handed[-1 - stale % len(self.handed)]).id not in known:
            mine.append(HeldTask(row.id, row.epoch, row.claim or "", b"stale"))
        ours, theirs = self.both("extend", owner, LEASE, mine)
        for answer in ("lost", "cancelled", "unknown"):
            assert set(getattr(ours, answer)) == set(getattr(theirs, answer)), answer

    @rule(spec=DOC, spawn=st.none() | INSERT, far=st.sampled_from(FAR), n=st.integers(0, 5))
    def put(self, spec: dict[str, Any], spawn: dict[str, Any] | None, far: str, n: int) -> None:
        until = None if n % 2 else self.clock.now() + 5000 + HALF
        self.send(
            [
                self.doc(spec, *([] if spawn is None else [self.new(spawn)])),
                PutResult(far, n % 3, b"far", until),
                PutEvents((kit.event("worker:w1", n), kit.event("worker:w1", n + 1))),
            ]
        )

    @rule(seconds=st.sampled_from((1, 3, 10, 61)))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(spec=CLAIM)
    def a_worker_falls_silent(self, spec: dict[str, Any]) -> None:
        self.clock.advance(31)
        self.seen = self.look()
        asked = self.ask("janitor", spec | {"chores": True})
        self.took(asked, *self.both("claim", asked))

    @rule()
    def sweep(self) -> None:
        for _ in range(100):
            if self.both("sweep") == (0, 0):
                return
        raise AssertionError("a sweep never came to its end")

    def ask(self, owner: str, spec: dict[str, Any]) -> Claim:
        slots = tuple(
            Slot(queue, lane, spec["limit"]) for queue in spec["queues"] for lane in spec["lanes"]
        )
        asked = kit.claim(owner)
        return Claim(
            owner=owner,
            request=asked.request,
            slots=slots,
            limit=max(0, 2 * spec["limit"] - 1),
            lease=LEASE,
            # All of them: which chores come first is not in the contract.
            chores=1000 if spec["chores"] else 0,
        )


@pytest.mark.ways
@pytest.mark.timeout(600)  # some thousand calls of a server
def test_any_sequence_means_the_same_as_in_the_tables(spot: Spot, new_ground: NewGround) -> None:
    """To see a failure made as small as can be (some minutes), use the profile `hunt`."""

    # Through the blocking face every call costs two threads, so it gets fewer.
    examples = PLACES[spot.place].examples // (1 if spot.face == "async" else 3)

    def new(path: Path, clock: Clock) -> AsyncStorage:
        return spot.new(new_ground(path), clock)

    class Here(Rules):
        new_storage = staticmethod(new)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            phases=[Phase.generate] if settings().derandomize else list(Phase),
        ),
    )
