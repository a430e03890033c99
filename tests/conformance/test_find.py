"""Finding and counting: every field of a filter, pages that hold still, bounded text search."""

from __future__ import annotations

from typing import Any

import pytest

from omniq.clock import ManualClock
from omniq.models import Status
from omniq.models.filters import TaskFilter
from omniq.storage.base import AsyncStorage

from .kit import (
    HOUR,
    SECOND,
    START,
    add,
    add_many,
    add_running,
    apply,
    cancel,
    change,
    counts,
    fail,
    find_ids,
    finish,
    get,
    insert,
    settle,
)

pytestmark = pytest.mark.asyncio

# Each filter, and the fields of a row it finds and of one it does not.
FIELDS: dict[str, tuple[TaskFilter, dict[str, Any], dict[str, Any]]] = {
    "queue": (TaskFilter(queues=("mail",)), {"queue": "mail"}, {"queue": "mai"}),
    "queues": (TaskFilter(queues=("a", "b")), {"queue": "b"}, {"queue": "c"}),
    "status": (
        TaskFilter(statuses=(Status.SCHEDULED,)),
        {"run_at": START + HOUR},
        {},
    ),
    "statuses": (
        TaskFilter(statuses=(Status.READY, Status.FAILED)),
        {},
        {"run_at": START + HOUR},
    ),
    "name": (TaskFilter(names=("app:send",)), {"name": "app:send"}, {"name": "app:sen"}),
    "names": (TaskFilter(names=("a:x", "a:y")), {"name": "a:x"}, {"name": "a:z"}),
    "tag": (TaskFilter(tag="big"), {"tags": ("old", "big")}, {"tags": ("bigger", "bi")}),
    "group": (TaskFilter(group="night"), {"group": "night"}, {"group": "day"}),
    "text": (TaskFilter(text="ann@"), {"preview": "to='ann@x'"}, {"preview": "to='bob@x'"}),
    "text-is-no-pattern": (TaskFilter(text="50%_"), {"preview": "50%_ off"}, {"preview": "50%x"}),
    "created-from": (TaskFilter(created_from=START), {"at": START + 5}, {"at": START - 5}),
    "created-to": (TaskFilter(created_to=START), {"at": START - 5}, {"at": START + 5}),
    "all-of-them": (
        TaskFilter(queues=("a",), statuses=(Status.READY,), tag="t", created_from=START),
        {"queue": "a", "tags": ("t",), "at": START + 5, "run_at": START},
        {"queue": "a", "tags": ("u",), "at": START + 5, "run_at": START},
    ),
}


@pytest.mark.parametrize("case", FIELDS)
async def test_every_field_of_a_filter_must_match(storage: AsyncStorage, case: str) -> None:
    filter, inside, outside = FIELDS[case]
    wanted = await add(storage, **{"run_at": START - HOUR} | inside)
    await add(storage, **{"run_at": START - HOUR} | outside)
    assert await find_ids(storage, filter) == [wanted.id]


async def test_an_empty_filter_finds_everything_newest_first(storage: AsyncStorage) -> None:
    tasks = [await add(storage, at=START + n, run_at=START) for n in (3, 1, 2)]
    wanted = sorted((task.id for task in tasks), reverse=True)
    assert await find_ids(storage) == wanted
    assert await find_ids(storage, TaskFilter(oldest_first=True)) == wanted[::-1]


async def test_the_owner_is_found_while_it_runs_and_after(storage: AsyncStorage) -> None:
    mine, other = await add_running(storage, "w1"), await add_running(storage, "w2")
    await add(storage)
    assert await find_ids(storage, TaskFilter(owner="w1")) == [mine.id]
    await apply(storage, finish(mine), fail(other))
    assert await find_ids(storage, TaskFilter(owner="w1")) == [mine.id]


async def test_failures_are_found_by_their_fault(storage: AsyncStorage) -> None:
    one, other = await add_running(storage), await add_running(storage)
    await apply(storage, fail(one, {"fault": "ValueError:1"}), fail(other, {"fault": "OSError:2"}))
    assert await find_ids(storage, TaskFilter(fault="ValueError:1")) == [one.id]
    assert await find_ids(storage, TaskFilter(fault="ValueError")) == []


async def test_children_are_found_by_their_parent(storage: AsyncStorage) -> None:
    parent, other = await add(storage), await add(storage)
    child = await add(storage, parent.id, other.id)
    await add(storage, other.id)
    assert await find_ids(storage, TaskFilter(parent=parent.id)) == [child.id]
    assert await find_ids(storage, TaskFilter(parent=child.id)) == []


async def test_a_changed_row_is_found_by_what_it_is_now(storage: AsyncStorage) -> None:
    task = await add(storage, tags=("old",), preview="old")
    await apply(storage, change(task.id, {"tags": ("new",), "preview": "new"}))
    assert await find_ids(storage, TaskFilter(tag="new", text="new")) == [task.id]
    assert await find_ids(storage, TaskFilter(tag="old")) == []
    assert await find_ids(storage, TaskFilter(text="old")) == []


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_pages_hold_still_while_rows_arrive_and_leave(
    storage: AsyncStorage, oldest_first: bool
) -> None:
    """What was there from the first page to the last is seen exactly once."""
    rows = [await add(storage, at=START + 10 * n, run_at=START) for n in range(12)]
    filter = TaskFilter(oldest_first=oldest_first)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await storage.find_tasks(filter, limit=5, cursor=cursor)
        seen += [task.id for task in page.rows]
        cursor = page.cursor
        if cursor is None:
            break
        behind = START - 50 if oldest_first else START + 500
        await add(storage, at=behind, run_at=START)
        last = page.rows[-1]
        if last.status is Status.READY:
            await apply(storage, cancel(last.id))
    wanted = [task.id for task in rows]
    assert seen == (wanted if oldest_first else wanted[::-1])


async def test_a_page_keeps_to_its_limit_and_ends_without_cursor(storage: AsyncStorage) -> None:
    await add_many(storage, [insert() for _ in range(6)])
    assert len((await storage.find_tasks(TaskFilter(), limit=4)).rows) == 4
    assert (await storage.find_tasks(TaskFilter(), limit=4)).cursor is not None
    assert (await storage.find_tasks(TaskFilter(), limit=100)).cursor is None
    for size in (1, 2, 3, 6, 7):
        assert len(await find_ids(storage, page=size)) == 6


async def test_a_found_row_is_without_body_and_error_but_with_preview(
    storage: AsyncStorage,
) -> None:
    task = await add(storage, body=b"secret", error=b"errors", preview="work(1)")
    [found] = (await storage.find_tasks(TaskFilter())).rows
    assert (found.body, found.error, found.preview) == (b"", None, "work(1)")
    assert (found.id, found.status, found.created_at) == (task.id, task.status, task.created_at)
    assert (await get(storage, task.id)).body == b"secret"


async def test_pitfall_28_a_search_for_text_never_says_no_more_too_early(
    storage: AsyncStorage,
) -> None:
    """It may stop after a bounded number of rows, with a short page and a cursor."""
    needle = await add(storage, preview="needle")
    await add_many(storage, [insert(preview="hay") for _ in range(6000)])
    assert await find_ids(storage, TaskFilter(text="needle")) == [needle.id]


async def test_rows_past_their_time_are_found_nowhere(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add_running(storage, queue="q")
    kept = await add(storage)
    await apply(storage, finish(task, patch={"keep_until": START + SECOND}))
    assert len(await find_ids(storage)) == 2
    clock.advance(2)
    assert await storage.get_tasks([task.id]) == []
    assert await find_ids(storage) == [kept.id]
    assert await counts(storage) == {("q", Status.READY): 1}


async def test_counts_are_by_queue_and_status(storage: AsyncStorage) -> None:
    assert await counts(storage) == {}
    parent = await add(storage, queue="a")
    await add(storage, parent.id, queue="b")
    await add(storage, queue="a", run_at=START + HOUR)
    for end in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED):
        await apply(storage, settle(await add_running(storage, queue="c"), end))
    await add_running(storage, queue="c")
    assert await counts(storage) == {
        ("a", Status.READY): 1,
        ("a", Status.SCHEDULED): 1,
        ("b", Status.WAITING): 1,
        ("c", Status.RUNNING): 1,
        ("c", Status.SUCCEEDED): 1,
        ("c", Status.FAILED): 1,
        ("c", Status.CANCELLED): 1,
        ("c", Status.EXPIRED): 1,
    }
