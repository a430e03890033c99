"""`flush`, and with it TransactionTestCase, forgets the tasks too.

Django empties the tables it has models for. Afterwards it sends a signal, by which OmniQ's are
emptied, but not always: not for test cases with `serialized_rollback`, and not where no other
tables are.
"""

from __future__ import annotations

from typing import Any

from django.core.management.commands import flush

from omniq.contrib.django.tables import empty


class Command(flush.Command):
    """As Django's own."""

    def handle(self, **options: Any) -> None:
        super().handle(**options)
        if not options["interactive"]:  # else the answer may have been no
            empty(options["database"])
