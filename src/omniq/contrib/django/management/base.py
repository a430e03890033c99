"""What OmniQ's management commands have in common."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.utils import DatabaseError

from omniq.contrib.django.conf import overlaid
from omniq.contrib.django.faces import queue
from omniq.contrib.django.workers.homes import homes
from omniq.errors import OmniQError
from omniq.models.filters import TaskFilter
from omniq.models.row import TaskRow

PAGE = 500
ROLES = {
    "strong": "MIGRATE_HEADING",
    "warning": "WARNING",
    "running": "HTTP_INFO",
    "succeeded": "SUCCESS",
    "failed": "ERROR",
    "cancelled": "WARNING",
    "expired": "WARNING",
}
"""What a report's kinds are in Django's palette."""


class OmniQCommand(BaseCommand):
    """Errors of OmniQ and of the database end it as one line with what to do."""

    verbosity = 1

    def execute(self, *args: Any, **options: Any) -> str | None:
        self.verbosity = options["verbosity"]
        try:
            return super().execute(*args, **options)
        except OmniQError as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            raise CommandError(f"the database refused: {error}") from error

    def say(self, text: str, *, from_verbosity: int = 1) -> None:
        """On standard output, at once, unless `-v` asks for less."""
        if self.verbosity >= from_verbosity:
            self.stdout.write(text)
            self.stdout.flush()

    def paint(self, text: str, kind: str) -> str:
        """A report's `Paint`, by Django's palette and its `--no-color`."""
        role = ROLES.get(kind)
        painted: str = getattr(self.style, role)(text) if role else text
        return painted


def names(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names from `--queues a,b --queues c`, or as `call_command` was given them."""
    given = [value] if isinstance(value, str) else value or []
    found = [name.strip() for text in given for name in text.split(",") if name.strip()]
    return tuple(dict.fromkeys(found))


def add_queues(parser: CommandParser, help: str) -> None:
    """The option that `queues_of` reads."""
    parser.add_argument(
        "-q",
        "--queue",
        dest="queues",
        action="append",
        metavar="NAMES",
        help=f"{help}; comma-separated, repeatable.",
    )


def queues_of(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The queues to look into; none: all of them."""
    return tuple(name for name in names(options["queues"]) if name != "*")


def add_backend(parser: CommandParser) -> None:
    """The option that `places` takes."""
    parser.add_argument(
        "--backend",
        metavar="ALIAS",
        help="Only where this backend of TASKS keeps its tasks. [wherever there are any]",
    )


def places(alias: str | None) -> Iterator[None]:
    """Go from place to place: in each step `queue` is the one that keeps its tasks there."""
    for home in homes(alias):
        with overlaid(home):
            yield


def found(filter: TaskFilter) -> Iterator[TaskRow]:
    """Every task that fits, page by page."""
    cursor: str | None = None
    while True:
        page = queue.find(filter, limit=PAGE, cursor=cursor)
        yield from page.tasks
        if (cursor := page.cursor) is None:
            return


def counted(number: int, what: str = "task") -> str:
    """A number and what it is of, in words."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def positive(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text) if text.strip().lstrip("+-").isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number greater than zero")
    return number


def not_negative(text: str) -> float:
    """A number from 0 on."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not zero or greater, and finite")
    return number
