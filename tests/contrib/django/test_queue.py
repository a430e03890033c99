"""`queue` and `aqueue`: OmniQ from sync and async Django code."""

from __future__ import annotations

import pytest
from django.db import transaction

from omniq import SyncInAsync
from omniq.contrib.django import aqueue, queue
from tests.contrib.django.shop.tasks import add


def test_a_task_is_stored_and_its_id_known(omniq: object) -> None:
    handle = queue.enqueue(add, (1, 2))
    assert queue.info(handle).row.id == handle
    assert handle.status() == "pending"


@pytest.mark.asyncio
async def test_the_same_in_async_code() -> None:
    handle = await aqueue.enqueue(add, (1, 2))
    assert (await aqueue.info(handle)).row.id == handle


@pytest.mark.asyncio
async def test_a_sync_call_in_async_code_says_what_to_write() -> None:
    with pytest.raises(SyncInAsync, match=r"write `await aqueue.enqueue\(...\)`"):
        queue.enqueue(add, (1, 2))


def test_a_rollback_forgets_what_waits_for_the_commit(real_db: None) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        queue.enqueue(add, (1, 2), on_commit=True)
        1 / 0  # noqa: B018
    assert queue.counts() == []


def test_a_commit_stores_it_under_the_id_already_known(real_db: None) -> None:
    with transaction.atomic():
        handle = queue.enqueue(add, (1, 2), on_commit=True)
        assert queue.counts() == []
    assert queue.info(handle).row.id == handle
