"""`manage.py omniq_status`: how many tasks there are, and who works on them."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from omniq.contrib.django.faces import queue
from omniq.contrib.django.management.base import OmniQCommand, add_backend, places
from omniq.contrib.report import Report


class Command(OmniQCommand):
    help = "How many tasks there are in each queue, and who works on them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="For programs.")
        add_backend(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        reports = [
            Report.of(queue.describe(), queue.counts(), queue.workers())
            for _ in places(options["backend"])
        ]
        if options["json"]:
            self.stdout.write(Report.json(reports))
        else:
            self.stdout.write("\n\n".join(each.text(paint=self.paint) for each in reports))
