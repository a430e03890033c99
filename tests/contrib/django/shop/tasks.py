"""Plain functions as tasks; found by autodiscovery, like every app's `tasks` module."""

from __future__ import annotations

from tests.contrib.django.shop.models import Order


def add(a: int, b: int) -> int:
    return a + b


async def add_async(a: int, b: int) -> int:
    return a + b


def boom(message: str) -> None:
    raise ValueError(message)


def pay(number: str) -> int:
    """How many orders it has marked as paid."""
    return Order.objects.filter(number=number).update(paid=True)


async def pay_async(number: str) -> int:
    return await Order.objects.filter(number=number).aupdate(paid=True)
