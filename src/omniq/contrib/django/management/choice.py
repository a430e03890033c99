"""Which queues a worker is to serve, by the options it was started with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError

from omniq.contrib.django.conf import django_settings
from omniq.contrib.django.management.base import names
from omniq.contrib.django.workers.homes import backend, backends
from omniq.errors import did_you_mean

ALL = "*"


def chosen(options: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The queues to serve (none: as configured; `*`: all) and those to leave to others."""
    queues, without = names(options["queues"]), names(options["exclude_queues"])
    configured = django_settings().queues
    if configured:
        _check((*queues, *without))
    if options["backend"] is not None and not queues:
        queues = tuple(sorted(backend(options["backend"]).queues)) or (ALL,)
    if without and (ALL in queues or not (queues or configured)):
        return (ALL,), without
    if without:
        rest = tuple(name for name in queues or configured if name not in without)
        if not rest:
            raise CommandError("--exclude-queues leaves no queue to serve")
        return rest, ()
    return queues, ()


def _check(given: tuple[str, ...]) -> None:
    """Refuse names that nobody enqueues into, where `OMNIQ["QUEUES"]` says which there are."""
    known = set(django_settings().queues).union(*(each.queues for each in backends().values()))
    for name in given:
        if name != ALL and name not in known:
            raise CommandError(
                f'the queue {name!r} is not one of OMNIQ["QUEUES"]{did_you_mean(name, known)}'
            )
