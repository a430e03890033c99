"""`omniq demo`: the example app, served from here, with pictures to work on."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import click

import omniq
from omniq.cli import ui
from omniq.cli.demo_view import View, make_view
from omniq.cli.serve import address_of, listen_on, serving
from omniq.core import AsyncOmniQ

COUNT, BATCH = 18, 6
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif")
PACKAGE = "omniq._demo"
"""The example app's name here: the wheel carries it so, a checkout has it in example_apps/."""


def run_demo(*, pictures: Path | None, base_dir: Path | None, port: int | None, leave: bool) -> int:
    """Serve, enqueue and show; gives the exit status: 1 if some task failed for good."""
    base = base_dir or Path(os.environ.get("OMNIQ_BASE_DIR", ".omniq"))
    _check_folder(base)
    if pictures is not None and not _pictures_in(pictures):
        raise click.BadParameter(
            f"no file in {pictures} ends in {', '.join(ENDINGS)}", param_hint="'--pictures'"
        )
    web, album_module, progress = (_part(name) for name in ("web", "album", "progress"))
    bound = listen_on("127.0.0.1", port, default=8000)
    address = address_of(bound)
    app = web.create_app(base, announce=False)
    logging.getLogger("omniq").setLevel(logging.WARNING)  # the view shows what matters here
    album = album_module.Album(base / "album")
    demo = _Demo(app, album, web.add_pictures, progress.progress_of)
    return asyncio.run(demo.run(bound, address, _sources(pictures, base), leave))


class _Demo:
    """One run. What it made is a list of batches, old ones included that were not finished."""

    def __init__(self, app: Any, album: Any, add: Any, progress_of: Any) -> None:
        self._app, self._album, self._add, self._progress_of = app, album, add, progress_of
        self._queue: AsyncOmniQ = app.state.omniq
        self._plugin = next(p for p in app.plugins if hasattr(p, "dashboard_url"))
        self._batches: list[Any] = []
        self._adding = True

    async def run(
        self, bound: Any, address: str, sources: AsyncIterator[Sequence[Path]], leave: bool
    ) -> int:
        began = perf_counter()
        self._batches = list(self._album.unfinished())
        async with serving(self._app, bound, stopping=self._plugin.close_streams) as stop:
            ui.say(f"{ui.strong('The album')}      {ui.link(address + '/')}")
            ui.say(f"{ui.strong('Its dashboard')}  {ui.link(self._plugin.dashboard_url(address))}")
            if self._batches:
                ui.say(f"Going on with {len(self._batches)} batches of an earlier run.")
            work = asyncio.create_task(self._work(sources))
            stopped = asyncio.create_task(stop.drain.wait())
            await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.wait([work])
                ui.note("Stopped before the end; the next demo goes on from here.")
                return 0
            states = await work
            self._summary(states, perf_counter() - began)
            if not leave:
                ui.say("\nStill serving: add pictures of your own. Ctrl-C ends it.")
                await stopped
            stopped.cancel()
        return 0 if all(each.finished for each in states) else 1

    async def _work(self, sources: AsyncIterator[Sequence[Path]]) -> list[Any]:
        adding = asyncio.create_task(self._enqueue(sources))
        try:
            with make_view() as view:
                states = await self._follow(view)
            await adding
        finally:
            adding.cancel()
        return states

    async def _enqueue(self, sources: AsyncIterator[Sequence[Path]]) -> None:
        """Hand over one batch after the other, as a browser's form would."""
        try:
            async for paths in sources:
                with ExitStack() as stack:
                    files = [(path.name, stack.enter_context(path.open("rb"))) for path in paths]
                    self._batches.append(await self._add(self._album, self._queue, files))
        finally:
            self._adding = False

    async def _follow(self, view: View) -> list[Any]:
        """Show how far it is until nothing is left to wait for."""
        async with self._queue.listen({"tasks"}) as ear:
            while True:
                adding = self._adding
                states = [
                    await self._progress_of(self._album, self._queue, batch)
                    for batch in list(self._batches)
                    if batch.pictures
                ]
                view.show(states, adding=adding)
                if not adding and not any(each.busy for each in states):
                    return states
                await ear.wait(0.25)
                await asyncio.sleep(0.05)  # a burst of signals is one picture on the screen

    def _summary(self, states: Sequence[Any], seconds: float) -> None:
        folder, sheet = self._album.folder, _part("album").SHEET
        thumbnails = [
            folder / each.batch.id / name for each in states for name in each.files if name != sheet
        ]
        pictures = sum(len(each.batch.pictures) for each in states)
        size = sum(path.stat().st_size for path in thumbnails)
        ui.say(
            f"{ui.good('✓')} {pictures} pictures: {len(thumbnails)} thumbnails "
            f"({size / 1e6:.1f} MB) in {seconds:.1f} s, below {folder}"
        )
        for each in states:
            if each.finished:
                ui.say(f"{ui.good('✓')} contact sheet {folder / each.batch.id / sheet}")
            else:
                ui.say(f"{ui.bad('✗')} batch {each.batch.id}: contact sheet {each.sheet}")
        for refused in (refused for batch in self._batches for refused in batch.refused):
            ui.say(f"{ui.bad('✗')} {refused.name} was not taken: {refused.why}")


async def _sources(pictures: Path | None, base: Path) -> AsyncIterator[Sequence[Path]]:
    """Pictures in batches: those of a folder, or landscapes made on the way."""
    if pictures is not None:
        found = await asyncio.to_thread(_pictures_in, pictures)
        for at in range(0, len(found), BATCH):
            yield found[at : at + BATCH]
        return
    make_samples = _part("samples").make_samples
    for upto in range(BATCH, COUNT + 1, BATCH):
        made = await asyncio.to_thread(make_samples, base / "demo-pictures", upto)
        yield made[-BATCH:]


def _check_folder(folder: Path) -> None:
    """Refuse a place nothing can be kept in, before anything is served."""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not there.is_dir():
        why = f"{there} is not a directory"
    elif not os.access(there, os.W_OK | os.X_OK):
        why = f"{there} cannot be written by this user"
    else:
        return
    raise click.ClickException(f"the demo cannot keep anything in {folder}: {why}; name a --dir")


def _pictures_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)


def _part(name: str) -> Any:
    """A module of the example app."""
    if PACKAGE not in sys.modules and importlib.util.find_spec(PACKAGE) is None:
        _use_checkout()
    return importlib.import_module(f"{PACKAGE}.{name}")


def _use_checkout() -> None:
    """In a checkout the example is not part of the package: take it from its folder."""
    folder = Path(omniq.__file__).parents[2] / "example_apps" / "litestar_app"
    spec = importlib.util.spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not folder.is_dir():
        raise click.ClickException(f"this installation of OmniQ has no demo: nothing in {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = module
    spec.loader.exec_module(module)
