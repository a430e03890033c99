"""`manage.py omniq_prune`: forget tasks that ended long ago."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from omniq.clock import SYSTEM_CLOCK
from omniq.contrib.django.management.base import (
    OmniQCommand,
    add_backend,
    add_queues,
    counted,
    found,
    not_negative,
    places,
    queues_of,
)
from omniq.contrib.django.management.pruning import forget
from omniq.models.filters import TaskFilter
from omniq.models.row import TaskRow
from omniq.models.status import Status


class Command(OmniQCommand):
    help = (
        "Forgets ended tasks and their results for good. Workers do so by themselves after the "
        "times in OMNIQ (HISTORY, DEAD_LETTERS); this is for doing it sooner."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--min-age-days",
            type=not_negative,
            default=14.0,
            metavar="DAYS",
            help="Tasks that ended at least so long ago. [14]",
        )
        parser.add_argument(
            "--failed-min-age-days",
            type=not_negative,
            metavar="DAYS",
            help="The same for failed ones, which are kept for another try. [--min-age-days]",
        )
        add_queues(parser, "Of these queues only")
        add_backend(parser)
        parser.add_argument(
            "--dry-run", action="store_true", help="Only say how many tasks it would be."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        now = SYSTEM_CLOCK.now()
        others, failed = options["min_age_days"], options["failed_min_age_days"]
        before = {
            status: now - _ms(failed if status is Status.FAILED and failed is not None else others)
            for status in Status
            if status.final
        }
        filter = TaskFilter(
            queues=queues_of(options),
            statuses=tuple(before),
            created_to=max(before.values()) + 1,
            oldest_first=True,
        )
        count = 0
        for _ in places(options["backend"]):
            old = (row for row in found(filter) if _ended_at(row) <= before[row.status])
            count += sum(1 for _ in old) if options["dry_run"] else forget(old)
        said = "Would forget" if options["dry_run"] else "Forgot"
        self.say(f"{said} {counted(count, 'ended task')}.")


def _ms(days: float) -> int:
    return round(timedelta(days=days).total_seconds() * 1000)


def _ended_at(row: TaskRow) -> int:
    return row.finished_at or row.created_at
