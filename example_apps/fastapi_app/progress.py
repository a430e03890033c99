"""How far a report is: from its own record, and from what the queue says of its tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from time import monotonic
from typing import Literal

from pydantic import BaseModel

from omniq import AsyncOmniQ, Status, TaskFilter

from .reports import Report, Reports

State = Literal["waiting", "reading", "mailing", "done", "failed", "cancelled"]
WORDS: dict[State, str] = {
    "waiting": "In line",
    "reading": "Reading",
    "mailing": "Sending the mail",
    "done": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
}
FOLLOWED = 8.0
"""Seconds one stream lasts, so that a server that stops need not wait long for it. The browser
comes back by itself."""
PAUSE = 0.15
"""Seconds between two looks at the queue, however much happens."""


class Standing(BaseModel):
    """One report as it stands: a word for people, and how many of its lines are read."""

    id: str
    state: State
    word: str
    detail: str = ""
    done: int
    total: int
    busy: bool
    """Whether waiting longer will change anything."""


async def standing(queue: AsyncOmniQ, report: Report) -> Standing:
    """Ask the record first: a report that is done costs the queue nothing."""
    if report.mailed:
        return _told(report, "done")
    if report.read_task is None:
        return _told(report, "waiting")
    found = await queue.find(TaskFilter(tag=report.id), limit=20)
    rows = {row.id: row for row in found.tasks}
    read, mail = rows.get(report.read_task), rows.get(report.mail_task or "")
    if report.summary is not None:
        if mail is None or not mail.status.final:
            again = mail is not None and mail.status is Status.SCHEDULED
            return _told(
                report, "mailing", "the mail folder refused, trying again" if again else ""
            )
        ended = mail
    elif read is None or read.status in (Status.READY, Status.WAITING, Status.HELD):
        return _told(report, "cancelled" if report.stopped else "waiting")
    elif not read.status.final:
        info = await queue.info(read.id)
        done = (info.progress or {}).get("done", report.upto)
        detail = "trying again" if read.status is Status.SCHEDULED else ""
        return _told(report, "reading", detail, done=done)
    else:
        ended = read
    if ended.status is Status.CANCELLED:
        return _told(report, "cancelled")
    if ended.status is Status.SUCCEEDED:  # its own record is written a moment later or before
        return _told(report, "mailing")
    info = await queue.info(ended.id)
    return _told(report, "failed", info.errors[-1].message if info.errors else "")


def _told(report: Report, state: State, detail: str = "", *, done: int | None = None) -> Standing:
    done = report.upto if done is None else done
    return Standing(
        id=report.id,
        state=state,
        word=WORDS[state],
        detail=detail,
        done=done,
        total=max(report.total, done, 1),
        busy=state in ("waiting", "reading", "mailing"),
    )


async def standings(
    queue: AsyncOmniQ, reports: Reports, only: str | None = None
) -> list[tuple[Report, Standing]]:
    """The newest reports, or the one asked for, each with how it stands."""
    if only is None:
        found: Sequence[Report] = await asyncio.to_thread(reports.newest)
    else:
        one = await asyncio.to_thread(reports.get, only)
        found = [one] if one else []
    return [(report, await standing(queue, report)) for report in found]


async def follow(
    queue: AsyncOmniQ, reports: Reports, only: str | None = None
) -> AsyncIterator[list[Standing]]:
    """How reports stand, told again whenever that changes, until nothing moves any more."""
    until, told = monotonic() + FOLLOWED, None
    async with queue.listen({"tasks"}) as ear:
        while True:
            now = [each for _, each in await standings(queue, reports, only)]
            if now != told:
                yield now
                told = now
            if monotonic() > until or not any(each.busy for each in now):
                return
            await asyncio.sleep(PAUSE)
            await ear.wait(1.0)
