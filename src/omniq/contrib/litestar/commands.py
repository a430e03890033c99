"""`litestar workers ...`: the same worker and report as `omniq`, from the app's own command."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from litestar import Litestar
from litestar.cli._utils import LitestarGroup

from omniq.contrib.host import look_at
from omniq.contrib.litestar.host import LitestarHost
from omniq.contrib.report import Report
from omniq.contrib.runner import Wanted, run_worker
from omniq.contrib.terminal import click_paint
from omniq.errors import OmniQError

NAME = "workers"
_KEY = click.option(
    "--name", metavar="KEY", help="Of an app with several OmniQPlugins: the one with this key."
)


def add_commands(cli: click.Group) -> None:
    """Add the group; once, however many plugins an app has."""
    if NAME not in cli.commands:
        cli.add_command(_group())


def _group() -> click.Group:
    group: click.Group = LitestarGroup(name=NAME, help="Work on the app's background tasks.")

    @group.command("run")
    @click.option("-q", "--queue", "queues", multiple=True, help="This queue only; repeatable.")
    @click.option("-c", "--concurrency", type=click.IntRange(1), help="Coroutines at once.")
    @click.option("-t", "--threads", type=click.IntRange(1), help="Plain functions at once.")
    @click.option(
        "--drain-timeout",
        "grace",
        type=click.FloatRange(0),
        help="Seconds running tasks get once a stop is asked.",
    )
    @click.option(
        "--batch",
        is_flag=True,
        help="Run what can run now, then leave. Status 3: tasks of unknown functions are left.",
    )
    @click.option("--max-tasks", type=click.IntRange(1), help="Leave after so many tasks.")
    @click.option("--until-stdin-ends", is_flag=True, hidden=True)
    @_KEY
    def run(app: Litestar, name: str | None, until_stdin_ends: bool, **options: Any) -> None:
        """Work on tasks until stopped: Ctrl-C lets running ones end, twice leaves at once."""
        wanted = Wanted(**options)
        with _errors_as_one_line():
            host = LitestarHost(app, name)
            sys.exit(run_worker(host, wanted, say=_note, until_stdin_ends=until_stdin_ends))

    @group.command("status")
    @click.option("--json", "as_json", is_flag=True, help="For programs.")
    @_KEY
    def status(app: Litestar, as_json: bool, name: str | None) -> None:
        """How many tasks there are, and who works on them."""
        with _errors_as_one_line():
            reports = asyncio.run(_read(LitestarHost(app, name)))
        text = "\n\n".join(each.text(paint=click_paint) for each in reports)
        click.echo(Report.json(reports) if as_json else text)

    return group


async def _read(host: LitestarHost) -> list[Report]:
    return [await look_at(queue) for queue in host.queues]


def _note(text: str) -> None:
    click.echo(text, err=True)


@contextmanager
def _errors_as_one_line() -> Iterator[None]:
    try:
        yield
    except OmniQError as error:
        raise click.ClickException(str(error)) from error
