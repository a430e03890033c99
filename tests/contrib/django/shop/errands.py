"""Tasks that do something with Django: they enqueue, commit and break."""

from __future__ import annotations

from functools import partial

from django.db import transaction

from omniq.contrib.django.backends.framework import task
from tests.contrib.django.shop.declared import add
from tests.contrib.django.shop.models import Order


@task
def chain(left: int) -> None:
    if left:
        chain.enqueue(left - 1)


@task
def enqueue_on_commit() -> None:
    with transaction.atomic():
        transaction.on_commit(partial(add.enqueue, 5, 6))


@task(retries=0)
def take_a_taken_number() -> None:
    Order.objects.create(number="taken")
    Order.objects.create(number="taken")
