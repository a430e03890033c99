"""Tasks and workers as the admin knows them: models without tables, read from the queue.

They exist for their names and permissions. A query finds nothing: what the admin shows comes
from `omniq.contrib.django.queue`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from omniq.models.info import TaskInfo
from omniq.models.row import Ms, TaskRow
from omniq.models.status import Status as TaskStatus
from omniq.models.worker import WorkerCard


class Nothing(models.Manager[Any]):
    """Finds nothing and asks no database, so that `dumpdata` and the like pass these by."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().none()


class Task(models.Model):
    """One task: its `row`, and on a page of its own its `info`."""

    class Status(models.IntegerChoices):
        WAITING = TaskStatus.WAITING, _("waiting")
        HELD = TaskStatus.HELD, _("held")
        SCHEDULED = TaskStatus.SCHEDULED, _("scheduled")
        READY = TaskStatus.READY, _("ready")
        RUNNING = TaskStatus.RUNNING, _("running")
        SUCCEEDED = TaskStatus.SUCCEEDED, _("succeeded")
        FAILED = TaskStatus.FAILED, _("failed")
        CANCELLED = TaskStatus.CANCELLED, _("cancelled")
        EXPIRED = TaskStatus.EXPIRED, _("expired")

    id: models.CharField[str, str] = models.CharField(_("id"), primary_key=True, max_length=36)
    name: models.CharField[str, str] = models.CharField(_("task"), max_length=500)
    queue: models.CharField[str, str] = models.CharField(_("queue"), max_length=200)
    status: models.PositiveSmallIntegerField[int, int] = models.PositiveSmallIntegerField(
        _("status"), choices=Status.choices
    )
    attempt: models.PositiveIntegerField[int, int] = models.PositiveIntegerField(
        _("attempts"), default=0
    )
    worker: models.CharField[str, str] = models.CharField(_("worker"), max_length=36)
    fault: models.CharField[str, str] = models.CharField(_("error"), max_length=500)
    created_at: models.DateTimeField[datetime, datetime] = models.DateTimeField(_("created"))
    started_at: models.DateTimeField[datetime | None, datetime | None] = models.DateTimeField(
        _("started"), null=True
    )
    finished_at: models.DateTimeField[datetime | None, datetime | None] = models.DateTimeField(
        _("ended"), null=True
    )

    objects = Nothing()
    row: TaskRow
    info: TaskInfo

    class Meta:
        managed = False
        base_manager_name = "objects"
        ordering = ("-id",)
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        default_permissions = ("view", "change", "delete")
        permissions = (("manage_queue", "Can act on whole groups of tasks"),)

    def __str__(self) -> str:
        return f"{self.name} {self.id}" if self.name else self.id

    @classmethod
    def of(cls, row: TaskRow) -> Self:
        """A row of the store for the admin."""
        task = cls(
            id=row.id,
            name=row.name,
            queue=row.queue,
            status=int(row.status),
            attempt=row.attempt,
            worker=row.owner or "",
            fault=row.fault or "",
            created_at=moment(row.created_at),
            started_at=moment(row.started_at),
            finished_at=moment(row.finished_at),
        )
        task.row = row
        return task


class FailedTask(Task):
    """A task that failed for good and is kept to be run again."""

    class Meta:
        proxy = True
        verbose_name = _("failed task")
        verbose_name_plural = _("failed tasks")
        default_permissions = ()


class Worker(models.Model):
    """One worker process, alive or gone a moment ago. `card` is what it says of itself."""

    id: models.CharField[str, str] = models.CharField(_("id"), primary_key=True, max_length=36)
    host: models.CharField[str, str] = models.CharField(_("host"), max_length=255)
    pid: models.PositiveIntegerField[int, int] = models.PositiveIntegerField(_("process"))
    version: models.CharField[str, str] = models.CharField(_("version"), max_length=40)
    started_at: models.DateTimeField[datetime, datetime] = models.DateTimeField(_("started"))
    seen_at: models.DateTimeField[datetime, datetime] = models.DateTimeField(_("heartbeat"))

    objects = Nothing()
    card: WorkerCard

    class Meta:
        managed = False
        base_manager_name = "objects"
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.host} {self.pid}"

    @classmethod
    def of(cls, card: WorkerCard) -> Self:
        """A worker's card for the admin."""
        worker = cls(
            id=card.id,
            host=card.host.partition("/")[0] or card.host,
            pid=card.pid,
            version=card.version,
            started_at=moment(card.started_at),
            seen_at=moment(card.seen_at),
        )
        worker.card = card
        return worker


def moment(ms: Ms | None) -> datetime | None:
    """A stamp of the store as Django has times: aware, or naive without `USE_TZ`."""
    if ms is None:
        return None
    found = datetime.fromtimestamp(ms / 1000, UTC)
    return found if settings.USE_TZ else timezone.make_naive(found)
