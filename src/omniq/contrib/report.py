"""How a queue stands, for people in a terminal and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import click
import msgspec
from msgspec import Struct

from omniq.clock import SYSTEM_CLOCK
from omniq.models.filters import QueueCount
from omniq.models.status import Status
from omniq.models.worker import WorkerCard

COLOURS = {
    Status.RUNNING: "blue",
    Status.SUCCEEDED: "green",
    Status.FAILED: "red",
    Status.CANCELLED: "yellow",
    Status.EXPIRED: "yellow",
}


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
        queues: dict[str, dict[str, int]] = {}
        for each in await queue.counts():
            queues.setdefault(each.queue, {})[each.status.name.lower()] = each.count
        return cls(queue.describe(), queues, await queue.workers())

    @staticmethod
    def json(reports: Sequence[Report]) -> str:
        """For programs: one object, or a list of them where there are several queues."""
        value = reports[0] if len(reports) == 1 else reports
        return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()

    def text(self, *, now: int | None = None) -> str:
        """The report as tables."""
        now = SYSTEM_CLOCK.now() if now is None else now
        return "\n\n".join([click.style(self.place, bold=True), self._queues(), self._workers(now)])

    def _queues(self) -> str:
        if not self.queues:
            return click.style("no tasks yet", dim=True)
        shown = [
            each for each in Status if any(each.name.lower() in n for n in self.queues.values())
        ]
        rows = [
            [name, *(_number(each, counts) for each in shown)]
            for name, counts in sorted(self.queues.items())
        ]
        head = ["queue", *(each.name.lower() for each in shown)]
        return table(head, rows, right="l" + "r" * len(shown))

    def _workers(self, now: int) -> str:
        if not self.workers:
            return click.style("no workers", fg="yellow") + ": nobody works on these tasks now"
        rows = []
        for card in self.workers:
            lanes = ", ".join(
                f"{lane} {card.running.get(lane, 0)}/{slots}" for lane, slots in card.slots.items()
            )
            state = "stopping" if card.stopping else "embedded" if card.embedded else "alone"
            served = ", ".join(card.queues) or "all"
            row = [f"{card.host}:{card.pid}", state, lanes, served]
            rows.append([*row, f"{duration((now - card.seen_at) / 1000)} ago"])
        return table(["worker", "runs", "busy", "queues", "seen"], rows)


def _number(status: Status, counts: dict[str, int]) -> str:
    number = counts.get(status.name.lower(), 0)
    if not number:
        return click.style("0", dim=True)
    return click.style(f"{number:,}", fg=COLOURS.get(status))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: str = "") -> str:
    """Rows in columns. `right` has a letter per column: "r" puts its cells to the right."""
    cells = [[click.style(each, dim=True) for each in head], *map(list, rows)]
    sides = right.ljust(len(head), "l")
    widths = [max(len(click.unstyle(row[i])) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        padded = [_pad(cell, widths[i], sides[i]) for i, cell in enumerate(row)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _pad(cell: str, width: int, side: str) -> str:
    gap = " " * (width - len(click.unstyle(cell)))
    return gap + cell if side == "r" else cell + gap


def duration(seconds: float) -> str:
    """`4s`, `3m`, `2h`, `5d`."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"
