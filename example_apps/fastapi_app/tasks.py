"""The two tasks, with dependencies as routes have them: settings, and a database connection
that is opened for the task and closed behind it."""

from __future__ import annotations

import asyncio
import time
from typing import TypedDict

import omniq
from omniq import AsyncOmniQ, DuplicateTask, TaskNotFound
from omniq.ids import uuid7

from .dialect import NotALedger
from .mailing import MailFolder, write_mail
from .reading import chunks
from .reports import Report, Reports, ReportsDep
from .settings import SettingsDep
from .summary import summarise


class Read(TypedDict):
    """What reading a ledger answers."""

    lines: int
    rejected: int


@omniq.task("ledger.read", queue="ledger", retries=3, never_retry=NotALedger, timeout=900)
def read_ledger(report_id: str, settings: SettingsDep, reports: ReportsDep) -> Read:
    """Read a file to its end, some lines at a time. Run again, it goes on where it stopped."""
    report, running = _known(reports, report_id), omniq.current()
    rejected = report.rejected
    for chunk in chunks(reports.content(report_id), report.dialect, after=report.upto):
        if running.cancelled:
            # Somebody pressed the button, or the server stops; OmniQ knows which it was.
            raise asyncio.CancelledError
        reports.add(report_id, chunk)
        rejected += len(chunk.rejected)
        running.set_progress(
            {"done": chunk.upto, "total": max(report.total, chunk.upto), "rejected": rejected}
        )
        time.sleep(settings.pace)
    rejected = _known(reports, report_id).rejected
    summary = summarise(
        reports.lines(report_id), rejected=rejected, currency=report.dialect.currency
    )
    reports.summed(report_id, summary)
    return Read(lines=summary.lines, rejected=rejected)


@omniq.task("ledger.mail", queue="mail", retries=8, retry_delay=0.5, retry_on=OSError, timeout=60)
def mail_summary(report_id: str, settings: SettingsDep, reports: ReportsDep) -> str:
    """Write the mail. The folder refuses at times; then OmniQ tries again, a bit later."""
    report = _known(reports, report_id)
    assert report.summary is not None, "this task depends on the one that reads"
    mail = write_mail(report, report.summary, reports.rejected(report_id), settings.sender)
    path = MailFolder(settings.outbox, flaky=settings.flaky).deliver(report_id, mail)
    reports.mailed(report_id, path.name)
    return path.name


def _known(reports: Reports, report_id: str) -> Report:
    report = reports.get(report_id)
    if report is None:
        raise NotALedger(f"the desk has no report {report_id}: was its database removed?")
    return report


async def start(queue: AsyncOmniQ, reports: Reports, report: Report) -> None:
    """Have a report read and then mailed.

    The key is the file's own hash, so whoever comes second, in this process or in another,
    is told who reads it already.
    """
    try:
        read = str(
            await queue.enqueue(
                read_ledger, (report.id,), unique=f"ledger:{report.sha}", tags=[report.id]
            )
        )
    except DuplicateTask as held:
        read = held.holder
        if read == report.read_task:
            return
    mail = uuid7()
    # Two that came at once know the same reading by now: the first to say so sends the mail.
    if await asyncio.to_thread(reports.started, report, read, mail):
        await mail_after(queue, report.id, read, mail)


async def mail_after(queue: AsyncOmniQ, report_id: str, read: str, mail: str) -> None:
    """The mail waits for the reading: if that fails or is cancelled, there is no mail."""
    await queue.enqueue(
        mail_summary, (report_id,), id=mail, depends_on=read, tags=[report_id], priority=5
    )


async def resume(queue: AsyncOmniQ, reports: Reports) -> int:
    """Enqueue what a crash may have kept from being enqueued; how many reports were looked at.

    A file is kept before its tasks are enqueued, and the browser is answered after that.
    Tasks that are known already stay as they are.
    """
    left = await asyncio.to_thread(reports.unfinished)
    for report in left:
        try:
            if report.read_task is None or report.mail_task is None:
                raise TaskNotFound("never enqueued", task_id="")
            await queue.result(report.read_task)
            await mail_after(queue, report.id, report.read_task, report.mail_task)
        except TaskNotFound:
            await start(queue, reports, report)
    return len(left)
