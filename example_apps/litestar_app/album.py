"""The album on disk: one folder per batch, and a manifest that says what was accepted.

album/0198.../batch.json            written last, before anything is enqueued
              originals/01-sea.jpg
              01-small.webp ...     made by tasks
              sheet.webp
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from omniq.ids import uuid7

from .files import sweep_rough, sync_folder, write_whole
from .pictures import SIZES, NotAPicture, look_at

MAX_PICTURES = 60
MAX_BYTES = 25 * 1024 * 1024
MANIFEST, SHEET = "batch.json", "sheet.webp"
BATCH_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SHOWN = re.compile(rf"\d\d-(?:{'|'.join(SIZES)})\.webp|{re.escape(SHEET)}")


class Picture(Struct, frozen=True):
    """One accepted picture; `task` is the id of the task that makes its thumbnails."""

    number: int
    name: str
    file: str
    width: int
    height: int
    task: str

    def thumbnail(self, size: str) -> str:
        return f"{self.number:02}-{size}.webp"


class Refused(Struct, frozen=True):
    """A file that was sent and not taken."""

    name: str
    why: str


class Batch(Struct, frozen=True):
    """What one upload brought. `sheet` is the id of the task that makes the contact sheet."""

    id: str
    at: float
    pictures: tuple[Picture, ...]
    refused: tuple[Refused, ...]
    sheet: str


# Made here once: two threads that make the first one of a type at the same time crash msgspec.
_batch = msgspec.json.Decoder(Batch).decode


class Album:
    """All batches below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def accept(self, uploads: Iterable[tuple[str, IO[bytes]]]) -> Batch:
        """Put uploaded files on disk, durably, and say what became of each.

        When this returns the batch outlives a crash: whoever starts next finds its manifest.
        """
        batch_id, taken, refused = uuid7(), list[Picture](), list[Refused]()
        folder = self.folder / batch_id
        for name, content in uploads:
            shown = plain_name(name)
            try:
                if len(taken) == MAX_PICTURES:
                    raise NotAPicture(f"one upload takes {MAX_PICTURES} pictures")
                taken.append(self._keep(folder, len(taken) + 1, shown, content))
            except NotAPicture as error:
                refused.append(Refused(shown, str(error)))
        batch = Batch(batch_id, time.time(), tuple(taken), tuple(refused), sheet=uuid7())
        if taken:
            write_whole(folder / MANIFEST, lambda file: file.write(msgspec.json.encode(batch)))
            sync_folder(self.folder)
        return batch

    def _keep(self, folder: Path, number: int, name: str, content: IO[bytes]) -> Picture:
        content.seek(0, 2)
        if content.tell() > MAX_BYTES:
            raise NotAPicture(f"it is larger than {MAX_BYTES // 1024**2} MiB")
        content.seek(0)
        ending, width, height = look_at(content)
        file = f"{number:02}-{slug(name)}{ending}"
        content.seek(0)
        write_whole(folder / "originals" / file, lambda to: shutil.copyfileobj(content, to))
        return Picture(number, name, file, width, height, task=uuid7())

    def batches(self, limit: int = 12) -> list[Batch]:
        """The newest batches first: their ids are ordered by time."""
        if not self.folder.is_dir():
            return []
        ids = sorted((path.name for path in self.folder.iterdir() if path.is_dir()), reverse=True)
        found = (self.batch(batch_id) for batch_id in ids)
        return [batch for _, batch in zip(range(limit), filter(None, found), strict=False)]

    def batch(self, batch_id: str) -> Batch | None:
        """One batch, or None: no such id, or its upload was cut off before it was accepted."""
        if not BATCH_ID.fullmatch(batch_id):
            return None
        try:
            content = (self.folder / batch_id / MANIFEST).read_bytes()
        except FileNotFoundError:
            return None
        return _batch(content)

    def shown(self, batch_id: str, name: str) -> Path | None:
        """The file of a thumbnail or sheet, if it is one and it is there."""
        if not (BATCH_ID.fullmatch(batch_id) and SHOWN.fullmatch(name)):
            return None
        path = self.folder / batch_id / name
        return path if path.is_file() else None

    def made(self, batch: Batch) -> frozenset[str]:
        """Names of what is finished in a batch's folder."""
        folder = self.folder / batch.id
        return frozenset(path.name for path in folder.glob("*.webp"))

    def unfinished(self) -> Sequence[Batch]:
        """Accepted batches without a contact sheet, the oldest first."""
        everything = reversed(self.batches(limit=10_000))
        return [batch for batch in everything if SHEET not in self.made(batch)]

    def tidy(self) -> int:
        """Remove half-written files of a process that was killed; call before serving."""
        return sweep_rough(self.folder)


def plain_name(name: str) -> str:
    """A name to show: no folders, no control characters, no wall of text."""
    last = re.split(r"[\\/]", name)[-1]
    return "".join(letter for letter in last if letter.isprintable()).strip()[:80] or "picture"


def slug(name: str) -> str:
    """A name that is safe on every file system."""
    stem = name.rsplit(".", 1)[0].casefold()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:40] or "picture"
