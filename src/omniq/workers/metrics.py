"""What a worker did, minute by minute: counters and histograms, kept as docs."""

from __future__ import annotations

from typing import Literal

import msgspec

from omniq.models.row import Ms, TaskRow
from omniq.models.units import PutDoc
from omniq.models.worker import MinuteMetric, NameMetric, bucket

Ended = Literal["ok", "failed", "retried"]

KIND = "metric"
KEPT = 24 * 3_600_000
_encode = msgspec.msgpack.encode


class Meter:
    """Counts ended runs per queue and name; belongs to one thread."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._minute: Ms = 0
        self._items: dict[tuple[str, str], NameMetric] = {}
        self._old: list[PutDoc] = []
        self._dirty = False

    def count(self, row: TaskRow, ended: Ended, now: Ms, ran: int) -> None:
        """One run that has ended; `ran` is how long it took in ms."""
        minute = now - now % 60_000
        if minute != self._minute:
            if self._dirty:
                self._old.append(self._doc())
            self._minute, self._items = minute, {}
        key = (row.queue, row.name)
        item = self._items.get(key)
        if item is None:
            item = NameMetric(queue=row.queue, name=row.name, wait={}, run={})
            self._items[key] = item
        self._dirty = True
        if ended == "ok":
            item.ok += 1
        elif ended == "failed":
            item.failed += 1
        else:
            item.retried += 1
        could_run = max(row.created_at, row.run_at)
        wait, run = item.wait, item.run
        b = bucket((row.started_at or could_run) - could_run)
        wait[b] = wait.get(b, 0) + 1
        b = bucket(ran)
        run[b] = run.get(b, 0) + 1

    def docs(self) -> list[PutDoc]:
        """What has changed since the last call, ready to be stored."""
        docs, self._old = self._old, []
        if self._dirty:
            docs.append(self._doc())
            self._dirty = False
        return docs

    def _doc(self) -> PutDoc:
        metric = MinuteMetric(
            minute=self._minute, worker=self._worker, items=list(self._items.values())
        )
        return PutDoc(
            kind=KIND,
            key=f"{self._minute:015d}/{self._worker}",
            value=_encode(metric),
            expires_at=self._minute + KEPT,
        )
