"""`omniq status` and `omniq retry`."""

from __future__ import annotations

import asyncio

import click

from omniq.cli import ui
from omniq.cli.load import default_host, load
from omniq.contrib.host import Host, look_at, refuse_missing
from omniq.contrib.report import Report
from omniq.contrib.terminal import click_paint
from omniq.errors import TaskNotFound


def show_status(target: str | None, *, as_json: bool, name: str | None) -> None:
    """Print how every queue of the target stands."""
    reports = asyncio.run(_read(_host(target, name)))
    if as_json:
        ui.say(Report.json(reports))
    else:
        ui.say("\n\n".join(each.text(paint=click_paint) for each in reports))


async def _read(host: Host) -> list[Report]:
    return [await look_at(queue) for queue in host.queues]


def retry_task(target: str | None, task_id: str, *, name: str | None) -> None:
    """Replay one task and say so; status 1 if there is nothing to replay."""
    if not asyncio.run(_retry(_host(target, name), task_id)):
        raise click.ClickException(
            f"task {task_id} is waiting or running, or it succeeded: only a failed, cancelled "
            "or expired task can run again (and a delayed one at once)"
        )
    ui.say(f"{ui.good('✓')} task {task_id} will run again")


async def _retry(host: Host, task_id: str) -> bool:
    errors = []
    for queue in host.queues:
        refuse_missing(queue)
        async with queue:
            try:
                return await queue.retry(task_id, actor="omniq retry")
            except TaskNotFound as error:
                errors.append(error)
    raise errors[0]


def _host(target: str | None, name: str | None) -> Host:
    return load(target, name) if target else default_host(must_exist=True)
