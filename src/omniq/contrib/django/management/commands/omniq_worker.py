"""`manage.py omniq_worker`: work on the project's tasks."""

from __future__ import annotations

import sys
import threading
from argparse import BooleanOptionalAction
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from omniq.contrib.django.management.base import OmniQCommand, not_negative, positive
from omniq.contrib.django.management.choice import chosen
from omniq.contrib.django.management.noise import heard
from omniq.contrib.django.workers.host import DjangoHost
from omniq.contrib.django.workers.reload import run_reloading
from omniq.contrib.runner import Wanted, run_worker
from omniq.contrib.signals import StopSignals
from omniq.errors import OmniQError


class Command(OmniQCommand):
    help = (
        "Works on tasks until stopped. The first Ctrl-C, SIGTERM or SIGQUIT lets running tasks "
        "end (status 0); the second leaves at once, and what still runs is given to other "
        "workers (status 130, 143 or 131)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "-q",
            "--queues",
            action="append",
            metavar="NAMES",
            help="Serve these queues only; comma-separated, repeatable. '*': all, which is the "
            'default unless OMNIQ["QUEUES"] names some.',
        )
        parser.add_argument(
            "--exclude-queues",
            action="append",
            metavar="NAMES",
            help="Serve every queue but these; comma-separated, repeatable.",
        )
        parser.add_argument(
            "--backend",
            metavar="ALIAS",
            help="Serve the queues which this backend of TASKS lists in its QUEUES, where it "
            "keeps its tasks. [wherever any backend or OMNIQ keeps tasks]",
        )
        parser.add_argument(
            "-c",
            "--concurrency",
            type=positive,
            metavar="N",
            help="Coroutines at once. [OMNIQ['ASYNC_WORKERS'], 100]",
        )
        parser.add_argument(
            "-t",
            "--threads",
            type=positive,
            metavar="N",
            help="Plain functions at once, each in a thread. [OMNIQ['THREAD_WORKERS'], 10]",
        )
        parser.add_argument(
            "--drain-timeout",
            type=not_negative,
            metavar="SECONDS",
            help="How long running tasks may go on once a stop is asked. [OMNIQ['GRACE'], 10]",
        )
        parser.add_argument(
            "--batch",
            action="store_true",
            help="Run what can run now, then leave. Tasks that are due later stay where they are. "
            "Status 3: tasks of unknown functions are left.",
        )
        parser.add_argument(
            "--max-tasks", type=positive, metavar="N", help="Leave after so many tasks."
        )
        parser.add_argument(
            "--reload",
            action=BooleanOptionalAction,
            default=settings.DEBUG,
            help="Start anew when code changes. Not for production. [DEBUG]",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        queues, without = chosen(options)
        wanted = Wanted(
            queues=queues,
            without=without,
            concurrency=options["concurrency"],
            threads=options["threads"],
            grace=options["drain_timeout"],
            batch=options["batch"],
            max_tasks=options["max_tasks"],
        )
        backend = options["backend"]
        with heard(self.verbosity, self.stdout):
            if options["reload"] and not options["batch"]:
                status = run_reloading(lambda stop: self._try(backend, wanted, stop))
            else:
                status = self._work(backend, wanted, None)
        if status:
            sys.exit(status)

    def _work(self, backend: str | None, wanted: Wanted, stop: StopSignals | None) -> int:
        if stop is None and threading.current_thread() is not threading.main_thread():
            stop = StopSignals(told=True)  # called by a program, which has the signals
        return run_worker(DjangoHost(name=backend), wanted, say=self.say, stop=stop)

    def _try(self, backend: str | None, wanted: Wanted, stop: StopSignals) -> int:
        """Under the reloader a mistake is not the end: it waits to be corrected."""
        try:
            return self._work(backend, wanted, stop)
        except OmniQError as error:
            self.stderr.write(f"{error}\nNothing runs until a file changes.")
            raise SystemExit(1) from error
