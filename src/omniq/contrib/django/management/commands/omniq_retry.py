"""`manage.py omniq_retry`: run tasks again."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from omniq.contrib.django.faces import queue
from omniq.contrib.django.management.base import (
    OmniQCommand,
    add_backend,
    add_queues,
    counted,
    found,
    names,
    places,
    queues_of,
)
from omniq.errors import TaskNotFound
from omniq.models.filters import TaskFilter
from omniq.models.status import Status

ACTOR = "manage.py omniq_retry"
UNKNOWN = "no task has this id (or it ended so long ago that it is forgotten)"


class Command(OmniQCommand):
    help = (
        "Runs failed, cancelled or expired tasks again from the start, and scheduled ones now. "
        "Status 1 if any of those named cannot be."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ids", nargs="*", metavar="ID", help="Which tasks, by their ids.")
        parser.add_argument("--failed", action="store_true", help="All tasks that have failed.")
        add_queues(parser, "With --failed: of these queues only")
        parser.add_argument(
            "--name",
            dest="names",
            action="append",
            metavar="NAMES",
            help="With --failed: of these tasks only, by the names workers know them by.",
        )
        add_backend(parser)
        parser.add_argument(
            "--dry-run", action="store_true", help="Only say which tasks would run again."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        ids, chosen = options["ids"], (*names(options["queues"]), *names(options["names"]))
        if bool(ids) == options["failed"]:
            raise CommandError(
                "say which tasks: their ids, or --failed for all that have failed"
                + (", not both" if ids else ""),
                returncode=2,
            )
        if chosen and not options["failed"]:
            raise CommandError("--queue and --name go with --failed", returncode=2)
        if options["failed"]:
            done = sum(self._all_failed(options) for _ in places(options["backend"]))
            said = "would run" if options["dry_run"] else "will run"
            self.say(self.paint(f"{counted(done)} {said} again.", "succeeded" if done else ""))
        else:
            self._these(options)

    def _all_failed(self, options: dict[str, Any]) -> int:
        filter = TaskFilter(
            statuses=(Status.FAILED,),
            queues=queues_of(options),
            names=names(options["names"]),
        )
        done = 0
        for row in found(filter):
            if options["dry_run"] or queue.retry(row.id, actor=ACTOR):
                done += 1
                self.say(f"{row.id} {row.name}", from_verbosity=2)
        return done

    def _these(self, options: dict[str, Any]) -> None:
        ids, dry, refused = options["ids"], options["dry_run"], 0
        for id in ids:
            whys = [self._retry(id, dry=dry) for _ in places(options["backend"])]
            if None in whys:
                self.say(f"{id} {'would' if dry else 'will'} run again.")
            else:
                refused += 1
                why = next((each for each in whys if each != UNKNOWN), UNKNOWN)
                self.stderr.write(f"{id}: {why}")
        if refused:
            raise CommandError(f"{refused} of {counted(len(ids))} cannot run again")

    def _retry(self, id: str, *, dry: bool) -> str | None:
        """None, or why not."""
        try:
            status = queue.info(id).row.status
            if (status.final or status is Status.SCHEDULED) and (
                dry or queue.retry(id, actor=ACTOR)
            ):
                return None
        except TaskNotFound:
            return UNKNOWN
        if status.final:
            return "another task holds its unique key, or somebody else has just done it"
        return "it is waiting or running: only what has ended can run again (and what is due later)"
