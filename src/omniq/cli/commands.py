"""The commands, one short function each; what they do is in the modules beside."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from omniq.cli import ui
from omniq.errors import OmniQError

EXTRAS = dict.fromkeys(("litestar", "htpy", "datastar_py", "uvicorn"), "dashboard") | {
    "PIL": "demo",
    "rich": "demo",
}
"""What some commands import -> the extra that brings it."""

F = TypeVar("F", bound=Callable[..., Any])


class Commands(click.Group):
    """Commands in the order they are written; errors of the library as one plain message."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # click would say "Aborted!" and give status 1
            sys.exit(130)
        except OmniQError as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            extra = EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            extra = "demo" if ctx.invoked_subcommand == "demo" else extra
            raise click.ClickException(
                f"this command needs {error.name}: pip install 'omniq-tasks[{extra}]'"
            ) from error


def _version() -> str:
    from importlib.metadata import version as installed
    from platform import python_version

    return f"OmniQ {installed('omniq-tasks')} (Python {python_version()})"


def _say_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        ui.say(_version())
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_say_version,
              help="Which OmniQ, which Python.")  # fmt: skip
def cli() -> None:
    """OmniQ, a task queue that starts inside your web app.

    MODULE:ATTRIBUTE names what holds the queue: an AsyncOmniQ, an OmniQ or a TaskQueue, a
    Litestar app with OmniQPlugin, or a FastAPI or Starlette app that starts OmniQ. Modules are
    looked for in the current directory first.
    """
    ui.show_warnings()


def _app_option(function: F) -> F:
    return click.option(
        "--app",
        metavar="MODULE:ATTRIBUTE",
        help="The queue's home. Without it: the settings in the environment, or `.omniq/` here.",
    )(function)


@cli.command()
@click.argument("target", metavar="MODULE:ATTRIBUTE")
@click.option("-q", "--queue", "queues", multiple=True, help="Serve this queue only; repeatable.")
@click.option("-c", "--concurrency", type=click.IntRange(1), help="Coroutines at once.")
@click.option("-t", "--threads", type=click.IntRange(1), help="Plain functions at once.")
@click.option("--grace", type=click.FloatRange(0), help="Seconds running tasks get at the stop.")
@click.option("--batch", is_flag=True,
              help="Run what can run now, then leave. Status 3: tasks of unknown functions are left.")  # fmt: skip
@click.option("--max-tasks", type=click.IntRange(1), help="Leave after so many tasks.")
@click.option("--name", metavar="KEY", help="Of an app with several queues: this one only.")
def worker(target: str, name: str | None, **options: Any) -> None:
    """Work on the tasks of a queue until stopped.

    The first Ctrl-C or SIGTERM lets running tasks end (status 0), the second leaves at once:
    what still runs is given to another worker (status 130 or 143).
    """
    from omniq.cli.load import load
    from omniq.contrib.runner import Wanted, run_worker

    wanted = Wanted(**options)
    sys.exit(run_worker(load(target, name), wanted, say=ui.note))


@cli.command()
@click.argument("target", metavar="[MODULE:ATTRIBUTE]", required=False)
@click.option("--host", help="Serve on this address.")
@click.option("--port", type=click.IntRange(0, 65535), help="Serve on this port; 0: a free one.")
@click.option("--name", metavar="KEY", help="Of an app with several queues: this one.")
def dashboard(target: str | None, host: str | None, port: int | None, name: str | None) -> None:
    """Serve the dashboard of a queue, without working on its tasks."""
    from omniq.cli.dashboard import serve

    serve(target, host=host, port=port, name=name)


@cli.command()
@click.option("--pictures", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Take the pictures of this folder instead of making some.")  # fmt: skip
@click.option("--dir", "base_dir", type=click.Path(file_okay=False, path_type=Path),
              help="Keep everything in this folder instead of `.omniq/`.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535),
              help="Serve on this port; 0: a free one. [default: 8000, or a free one]")  # fmt: skip
@click.option("--exit", "leave", is_flag=True, help="End once all tasks are done.")
def demo(pictures: Path | None, base_dir: Path | None, port: int | None, leave: bool) -> None:
    """Show it all: a small web app that makes thumbnails in the background."""
    from omniq.cli.demo import run_demo

    sys.exit(run_demo(pictures=pictures, base_dir=base_dir, port=port, leave=leave))


@cli.command()
@click.argument("target", metavar="[MODULE:ATTRIBUTE]", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--name", metavar="KEY", help="Of an app with several queues: this one.")
def status(target: str | None, as_json: bool, name: str | None) -> None:
    """How many tasks there are, and who works on them."""
    from omniq.cli.status import show_status

    show_status(target, as_json=as_json, name=name)


@cli.command()
@click.argument("task_id", metavar="ID")
@_app_option
@click.option("--name", metavar="KEY", help="Of an app with several queues: this one.")
def retry(task_id: str, app: str | None, name: str | None) -> None:
    """Run a failed, cancelled or expired task again; a delayed one at once."""
    from omniq.cli.status import retry_task

    retry_task(app, task_id, name=name)


@cli.command()
def version() -> None:
    """Which OmniQ, which Python."""
    ui.say(_version())
