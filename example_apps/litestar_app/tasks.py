"""The background tasks. Each may be killed and run again at any point: what it writes is
whole, has the same name every time, and is skipped if it is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import omniq
from omniq import AsyncOmniQ, Task

from .album import SHEET, Album, Batch
from .pictures import SIZES, make_sheet, make_thumbnail


class Made(TypedDict):
    """What a task answers: names of files and how large their pictures are."""

    files: list[str]
    width: int
    height: int


@omniq.task("pictures.thumbnails", queue="pictures", retries=3, retry_delay=0.5, timeout=120)
def thumbnails(album: str, batch_id: str, number: int) -> Made:
    """Make every size of one picture. A plain function, so it runs in the thread lane."""
    folder, batch = _open(album, batch_id)
    picture = batch.pictures[number - 1]
    running = omniq.current()
    made = Made(files=[], width=picture.width, height=picture.height)
    for done, (size, edge) in enumerate(SIZES.items(), start=1):
        target = folder / picture.thumbnail(size)
        if not target.exists():
            make_thumbnail(folder / "originals" / picture.file, target, edge)
        made["files"].append(target.name)
        running.set_progress({"done": done, "total": len(SIZES), "size": size})
    return made


@omniq.task("pictures.sheet", queue="pictures", priority=5, retries=3, timeout=120)
def contact_sheet(album: str, batch_id: str) -> Made:
    """Lay out a batch. It depends on all of the batch's thumbnails, so it starts after them."""
    folder, batch = _open(album, batch_id)
    target = folder / SHEET
    small = [(picture.name, folder / picture.thumbnail("small")) for picture in batch.pictures]
    width, height = make_sheet(small, target)
    return Made(files=[target.name], width=width, height=height)


def tasks_of(album: Album, batch: Batch) -> Sequence[Task]:
    """What there is to do for a batch, under the ids its manifest gives: whoever enqueues
    them again, after a crash for example, changes nothing."""
    where = str(album.folder.resolve())
    pictures = [
        Task(func=thumbnails, args=(where, batch.id, it.number), id=it.task, tags=(batch.id,))
        for it in batch.pictures
    ]
    sheet = Task(
        func=contact_sheet,
        args=(where, batch.id),
        id=batch.sheet,
        tags=(batch.id,),
        depends_on=tuple(task.id for task in pictures),
    )
    return [*pictures, sheet]


async def resume(album: Album, queue: AsyncOmniQ) -> int:
    """Enqueue what a crash may have kept from being enqueued; how many batches were looked at.

    The manifest is written before the tasks are enqueued, and the browser is answered after
    that. A process killed between the two left a batch nobody works on.
    """
    batches = album.unfinished()
    for batch in batches:
        await queue.enqueue_many(tasks_of(album, batch))
    return len(batches)


def _open(album: str, batch_id: str) -> tuple[Path, Batch]:
    store = Album(Path(album))
    batch = store.batch(batch_id)
    if batch is None:
        raise FileNotFoundError(f"no batch {batch_id} in {album}: was its folder removed?")
    return store.folder / batch_id, batch
