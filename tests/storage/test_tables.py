"""The tables: decisions leave them alone, indexes stay flat and true, nothing is shared."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import pytest

from omniq.clock import ManualClock
from omniq.models import Dep, EventType, Patch, PutEvents, Status, TaskEvent
from omniq.models.filters import EventFilter, HeldTask, TaskFilter
from omniq.storage.log.engine import LogEngine
from omniq.storage.memory import MemoryLog
from omniq.storage.tables import Tables, handout
from omniq.storage.tables.decide import Draft
from omniq.storage.tables.index import LazyHeap
from tests.conformance import kit

from .history import History, contents

NOW = kit.START


def calls(act: Callable[[], Any]) -> int:
    """How many functions are called while `act` runs: work, measured without a clock."""
    count = 0

    def seen(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def filled(ready: int, later: int = 0, expired: int = 0) -> Tables:
    tables = Tables()
    units = [kit.insert() for _ in range(ready)]
    units += [kit.insert(run_at=NOW + kit.HOUR) for _ in range(later)]
    units += [kit.insert(expires_at=NOW, priority=9) for _ in range(expired)]
    tables.apply(units, NOW)
    tables.claim(kit.claim(limit=1), NOW)  # the first look puts the indexes in order
    return tables


def cost_of_claims(tables: Tables) -> int:
    return calls(lambda: [tables.claim(kit.claim(limit=10), NOW) for _ in range(20)])


def test_a_claim_costs_the_same_whatever_waits() -> None:
    few = cost_of_claims(filled(1_000))
    assert cost_of_claims(filled(50_000)) < 1.2 * few
    assert cost_of_claims(filled(1_000, later=100_000)) < 1.2 * few
    assert cost_of_claims(filled(1_000, expired=20_000)) < 1.2 * few


def test_a_change_costs_the_same_however_much_is_kept() -> None:
    def cost(tables: Tables) -> int:
        def work() -> None:
            for _ in range(20):
                [task] = tables.claim(kit.claim(limit=1), NOW).tasks
                keep: Patch = {"keep_until": NOW + kit.HOUR}
                tables.apply([kit.finish(task, until=NOW + kit.HOUR, patch=keep)], NOW)
                tables.apply([kit.insert()], NOW)

        return calls(work)

    assert cost(filled(50_000, later=50_000)) < 1.2 * cost(filled(100))


@pytest.mark.parametrize("seed", range(6))
def test_a_decision_changes_nothing(seed: int) -> None:
    clock = ManualClock()
    history = History(seed, LogEngine(MemoryLog(), clock=clock), clock.advance)
    for _ in range(120):
        history.step()
    tables, now = history.engine.tables, clock.now() + 50_000
    before = contents(tables, now)
    held = [HeldTask(row.id, row.epoch, row.claim or "", b"9") for row in tables.rows.values()]
    draft = Draft(tables, now)
    draft.apply([kit.cancel(id) for id in tables.rows])
    draft.apply([kit.replay(id) for id in tables.rows])
    draft.apply([kit.insert(id) for id in tables.rows])
    handout.claim(draft, kit.claim(queues=("a", "b", "q"), limit=50, chores=50))
    handout.extend(draft, "w1", kit.LEASE, held)
    assert handout.sweep(Draft(tables, now), 1000) > 0
    assert len(draft.segment.set) > 10
    assert contents(tables, now) == before


@pytest.mark.parametrize("seed", range(6))
def test_what_is_derived_agrees_with_the_rows(seed: int) -> None:
    clock = ManualClock()
    history = History(seed, LogEngine(MemoryLog(), clock=clock), clock.advance)
    for _ in range(300):
        history.step()
        tables = history.engine.tables
    now = clock.now()
    rows = tables.rows.values()
    by_hand: dict[tuple[str, Status], int] = {}
    for row in rows:
        if tables.visible(row, now):
            by_hand[row.queue, row.status] = by_hand.get((row.queue, row.status), 0) + 1
    assert {(c.queue, c.status): c.count for c in tables.count_tasks(now)} == by_hand
    running = {id for ids in tables.running.values() for id in ids}
    assert running == {row.id for row in rows if row.status is Status.RUNNING}
    assert tables.leases.keys() <= tables.running.keys()
    for row in rows:
        edges = tables.edges.get(row.id, {})
        assert row.waiting == sum(edge.state == 1 for edge in edges.values())
        unfinished = [
            child
            for child in tables.children.get(row.id, ())
            if not tables.rows[child].status.final
        ]
        assert tables.unfinished[row.id] == len(unfinished)
    found = tables.find_tasks(TaskFilter(oldest_first=True), now, limit=10_000).rows
    assert [row.id for row in found] == sorted(r.id for r in rows if tables.visible(r, now))


def test_a_heap_gives_what_lives_in_order() -> None:
    for seed in range(20):
        r = random.Random(seed)
        living: set[tuple[int]] = set()
        heap: LazyHeap[tuple[int]] = LazyHeap(living.__contains__)
        for _ in range(r.choice((50, 5000))):
            entry = (r.randrange(500),)
            if r.random() < 0.6:
                if entry not in living:
                    living.add(entry)
                    heap.add(entry)
            else:
                living.discard(entry)
            if r.random() < 0.02:
                assert list(heap.walk()) == sorted(living)
        assert list(heap.walk()) == sorted(living)
        assert heap.first() == min(living, default=None)


def test_a_heap_of_the_dead_does_not_grow() -> None:
    living: set[tuple[int]] = set()
    heap: LazyHeap[tuple[int]] = LazyHeap(living.__contains__)
    for n in range(100_000):
        living.add((n,))
        heap.add((n,))
        living.discard((n,))
    assert len(heap) < 5000


def test_nothing_that_goes_in_or_comes_out_is_shared() -> None:
    tables = Tables()
    data: dict[str, Any] = {"n": 1, "deep": {"list": [1]}}
    flat: dict[str, Any] = {"n": 1}
    told = (
        TaskEvent(task="t", n=1, at=NOW, type=EventType.ACTION, data=data),
        TaskEvent(task="t", n=2, at=NOW, type=EventType.ACTION, data=flat),
    )
    tables.apply([PutEvents(told)], NOW)
    data["deep"]["list"].append(2)
    flat["n"] = 2
    for _ in range(2):
        first, second = tables.read_events(EventFilter(), NOW).events
        assert first.data == {"n": 1, "deep": {"list": [1]}}
        assert second.data == {"n": 1}
        first.data["deep"]["list"].append(3)
        second.data.clear()


def test_a_kept_parent_goes_once_its_children_have_ended_and_gone() -> None:
    tables = Tables()
    parent, end = kit.insert(), kit.insert()
    child = kit.insert(parent.row.id, Dep(end.row.id, need="end"))
    tables.apply([parent, end, child], NOW)
    for _ in range(3):
        for task in tables.claim(kit.claim(), NOW).tasks:
            tables.apply([kit.finish(task, patch={"keep_until": NOW + 1})], NOW)
    while tables.sweep(NOW + 2, limit=1):
        pass
    assert contents(tables) == contents(Tables()) | {"counts": {}}


def test_forgotten_events_leave_the_numbers_of_the_others_alone() -> None:
    tables = Tables()
    for n in range(100):
        keep = None if n % 10 == 9 else NOW + n
        tables.apply([PutEvents((kit.event("t", n, keep_until=keep),))], NOW)
    cursor = tables.read_events(EventFilter(), NOW, limit=50).cursor
    while tables.sweep(NOW + 1000, limit=7):
        later = tables.read_events(EventFilter(), NOW + 1000, after=cursor)
        assert [event.n for event in later.events] == [59, 69, 79, 89, 99]
    assert [e.n for e in tables.read_events(EventFilter(), NOW).events] == [*range(9, 100, 10)]
    assert len([event for event in tables.events if event is not None]) == 10


def test_a_parent_replayed_before_it_came_to_all_its_children_makes_the_rest_wait_on() -> None:
    tables = Tables()
    parent = kit.insert(queue="first")
    tables.apply([parent, *(kit.insert(parent.row.id) for _ in range(700))], NOW)
    [task] = tables.claim(kit.claim(queues=("first",)), NOW).tasks
    assert len(tables.apply([kit.fail(task)], NOW).stranded) == 500
    tables.apply([kit.replay(task.id)], NOW)
    assert tables.sweep(NOW) == 0
    [again] = tables.claim(kit.claim(queues=("first",)), NOW).tasks
    tables.apply([kit.finish(again)], NOW)
    counts = {(c.queue, c.status): c.count for c in tables.count_tasks(NOW)}
    assert counts["q", Status.READY] == 200
    assert len(tables.stranded) == 500


def test_more_rows_fall_due_at_once_than_a_claim_makes_ready() -> None:
    tables, later = Tables(), NOW + 1000
    count = 2 * handout.PROMOTE + 10
    tables.apply([kit.insert(run_at=later) for _ in range(count)], NOW)
    got: list[str] = []
    while batch := tables.claim(kit.claim(limit=700), later).tasks:
        got += [task.id for task in batch]
    assert got == sorted(tables.rows)
    assert len(got) == count
