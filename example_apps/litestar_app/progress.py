"""How far a batch is: the files on disk, and what the queue says of the tasks."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from omniq import AsyncOmniQ, Status, TaskFilter

from .album import MAX_PICTURES, SHEET, Album, Batch, Picture
from .pictures import SIZES

WORDS = {
    Status.WAITING: "waiting",
    Status.HELD: "in line",
    Status.SCHEDULED: "trying again",
    Status.READY: "in line",
    Status.RUNNING: "working",
    Status.SUCCEEDED: "done",
    Status.FAILED: "failed",
    Status.CANCELLED: "cancelled",
    Status.EXPIRED: "expired",
}
STOPPED = ("failed", "cancelled", "expired")


class Progress(Struct, frozen=True):
    """One batch as it stands: what is there, and a word for each task that is not done."""

    batch: Batch
    files: frozenset[str]
    words: Mapping[str, str] = {}

    def of(self, picture: Picture) -> str:
        """One word for one picture."""
        done = all(picture.thumbnail(size) in self.files for size in SIZES)
        return "done" if done else self.words.get(picture.task, "in line")

    @property
    def sheet(self) -> str:
        """One word for the contact sheet."""
        return "done" if SHEET in self.files else self.words.get(self.batch.sheet, "waiting")

    @property
    def done(self) -> int:
        return sum(self.of(picture) == "done" for picture in self.batch.pictures)

    @property
    def finished(self) -> bool:
        return self.sheet == "done"

    @property
    def busy(self) -> bool:
        """Whether waiting longer will change anything."""
        words = [self.sheet, *map(self.of, self.batch.pictures)]
        return not self.finished and any(word not in ("done", *STOPPED) for word in words)


async def progress_of(album: Album, queue: AsyncOmniQ, batch: Batch) -> Progress:
    """Ask the disk first: a finished batch costs the queue nothing."""
    files = album.made(batch)
    if SHEET in files:
        return Progress(batch, files)
    found = await queue.find(TaskFilter(tag=batch.id), limit=MAX_PICTURES + 1)
    return Progress(batch, files, {row.id: WORDS[row.status] for row in found.tasks})
