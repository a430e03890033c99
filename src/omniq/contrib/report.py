"""How a queue stands, for people in a terminal and for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from omniq.clock import SYSTEM_CLOCK
from omniq.models.filters import QueueCount
from omniq.models.status import Status
from omniq.models.worker import WorkerCard

Paint = Callable[[str, str], str]
"""Colours a text by its kind: "strong", "faint", "warning" or a status in small letters. How is
the business of whoever owns the terminal."""
Cell = tuple[str, str]
"""A text and its kind; "" is none."""


def plain(text: str, kind: str) -> str:
    """No colours."""
    return text


class Countable(Protocol):
    """What a report asks of a queue."""

    def describe(self) -> str: ...

    async def counts(self) -> list[QueueCount]: ...

    async def workers(self) -> list[WorkerCard]: ...


class Report(Struct, frozen=True):
    """One look at a queue. `queues`: queue -> status in small letters -> number of tasks."""

    place: str
    queues: dict[str, dict[str, int]]
    workers: list[WorkerCard]

    @classmethod
    async def read(cls, queue: Countable) -> Report:
        """Ask the queue, which must be open."""
        return cls.of(queue.describe(), await queue.counts(), await queue.workers())

    @classmethod
    def of(cls, place: str, counts: Iterable[QueueCount], workers: list[WorkerCard]) -> Report:
        """From what the queue has answered."""
        queues: dict[str, dict[str, int]] = {}
        for each in counts:
            queues.setdefault(each.queue, {})[each.status.name.lower()] = each.count
        return cls(place, queues, workers)

    @staticmethod
    def json(reports: Sequence[Report]) -> str:
        """For programs: one object, or a list of them where there are several queues."""
        value = reports[0] if len(reports) == 1 else reports
        return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()

    def text(self, *, paint: Paint = plain, now: int | None = None) -> str:
        """The report as tables."""
        now = SYSTEM_CLOCK.now() if now is None else now
        parts = [paint(self.place, "strong"), self._queues(paint), self._workers(now, paint)]
        return "\n\n".join(parts)

    def _queues(self, paint: Paint) -> str:
        if not self.queues:
            return paint("no tasks yet", "faint")
        shown = [
            each for each in Status if any(each.name.lower() in n for n in self.queues.values())
        ]
        rows = [
            [(name, ""), *(_number(each, counts) for each in shown)]
            for name, counts in sorted(self.queues.items())
        ]
        head = ["queue", *(each.name.lower() for each in shown)]
        return table(head, rows, right="l" + "r" * len(shown), paint=paint)

    def _workers(self, now: int, paint: Paint) -> str:
        if not self.workers:
            return paint("no workers", "warning") + ": nobody works on these tasks now"
        rows = []
        for card in self.workers:
            lanes = ", ".join(
                f"{lane} {card.running.get(lane, 0)}/{slots}" for lane, slots in card.slots.items()
            )
            state = "stopping" if card.stopping else "embedded" if card.embedded else "alone"
            served = ", ".join(card.queues) or "all"
            seen = f"{duration((now - card.seen_at) / 1000)} ago"
            row = (f"{card.host}:{card.pid}", state, lanes, served, seen)
            rows.append([(text, "") for text in row])
        return table(["worker", "runs", "busy", "queues", "seen"], rows, paint=paint)


def _number(status: Status, counts: dict[str, int]) -> Cell:
    name = status.name.lower()
    number = counts.get(name, 0)
    return (f"{number:,}", name) if number else ("0", "faint")


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    right: str = "",
    paint: Paint = plain,
) -> str:
    """Rows in columns. `right` has a letter per column: "r" puts its cells to the right."""
    cells: list[Sequence[Cell]] = [[(each, "faint") for each in head], *rows]
    sides = right.ljust(len(head), "l")
    widths = [max(len(row[i][0]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        padded = []
        for (text, kind), width, side in zip(row, widths, sides, strict=True):
            gap, shown = " " * (width - len(text)), paint(text, kind) if kind else text
            padded.append(gap + shown if side == "r" else shown + gap)
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """`4s`, `3m`, `2h`, `5d`."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"
