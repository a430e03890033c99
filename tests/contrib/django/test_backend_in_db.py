"""`OmniQBackend` with its tasks in Django's own database: they commit with the transaction."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction

from omniq.contrib.django import queue
from omniq.contrib.django.backends.framework import (
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
)
from omniq.contrib.django.runtime import blocking
from tests.contrib.django.shop import declared
from tests.contrib.django.shop.models import Order

pytestmark = pytest.mark.usefixtures("real_db", "omniq_in_db")


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    declared.SEEN.clear()


def ended(result: Any) -> Any:
    """Wait until a worker has ended it."""
    blocking().start_worker()
    for _ in blocking().results([result.id]):
        pass
    result.refresh()
    return result


def test_it_is_part_of_the_transaction() -> None:
    assert blocking().counts() == []
    with transaction.atomic():
        Order.objects.create(number="a")
        result = declared.add.enqueue(1, 2)
        assert declared.add.get_result(result.id) == result, "its own transaction sees it"
        with pytest.raises(LookupError):
            blocking().info(result.id)  # nobody else does
    assert ended(result).return_value == 3


def test_it_is_rolled_back_with_it() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        result = declared.add.enqueue(1, 2)
        1 / 0  # noqa: B018
    assert queue.counts() == []
    with pytest.raises(TaskResultDoesNotExist):
        result.refresh()


def test_on_commit_is_the_transaction_itself() -> None:
    with transaction.atomic():
        result = declared.add.enqueue_on_commit(1, 2)  # type: ignore[attr-defined]
        result.refresh()
    assert ended(result).return_value == 3


@pytest.mark.asyncio
async def test_async_code() -> None:
    result = await declared.add_async.aenqueue(1, 2)
    assert await declared.add_async.aget_result(result.id) == result
    await sync_to_async(ended)(result)
    assert result.return_value == 3
    with pytest.raises(TaskResultDoesNotExist):
        await task_backends["default"].aget_result("01890000-0000-7000-8000-000000000000")


def test_every_attempt_is_told() -> None:
    result = ended(declared.third_time.enqueue(1))
    assert (result.status, result.attempts) == (TaskResultStatus.SUCCESSFUL, 3)
    assert [error.exception_class for error in result.errors] == [LookupError, LookupError]
