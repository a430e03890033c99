"""What must be true in the end, of what was written down and of what the queue says."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

from omniq import AsyncOmniQ, EventFilter, EventType, Status
from omniq.models.row import TaskRow
from tests.rows import rows_in


class Run(NamedTuple):
    """One execution. `end` None: its process was killed."""

    id: str
    epoch: int
    pid: int
    start: int
    end: int | None


class History(NamedTuple):
    """Everything that happened."""

    acked: set[str]
    runs: dict[str, list[Run]]
    rows: dict[str, TaskRow]
    ends: Counter[str]
    """COMPLETE events by task: its final results."""

    @property
    def repeated(self) -> int:
        """Executions beyond the first."""
        return sum(len(runs) - 1 for runs in self.runs.values())


def acked_in(folder: Path) -> set[str]:
    """The ids whose enqueue was acknowledged."""
    return {id for path in folder.glob("acked-*") for id in path.read_text().split()}


def runs_in(folder: Path) -> dict[str, list[Run]]:
    """Every execution by task, in the order of their starts."""
    found: dict[tuple[str, int, int], list[int]] = {}
    for path in folder.glob("ran-*"):
        for line in path.read_text().splitlines():
            _, id, epoch, pid, at = line.split()
            found.setdefault((id, int(epoch), int(pid)), []).append(int(at))
    runs: dict[str, list[Run]] = defaultdict(list)
    for (id, epoch, pid), times in found.items():
        assert len(times) <= 2, f"one claim of {id} was run twice"
        runs[id].append(Run(id, epoch, pid, times[0], times[1] if len(times) == 2 else None))
    return {id: sorted(each, key=lambda run: run.start) for id, each in runs.items()}


async def read(queue: AsyncOmniQ, folder: Path) -> History:
    """Read it all, once nothing runs any more."""
    ends = Counter[str]()
    cursor = None
    while True:
        filter = EventFilter(types=(EventType.COMPLETE,))
        page = await queue.events(filter, after=cursor, limit=1000)
        ends.update(event.task for event in page.events)
        if not page.events:
            break
        cursor = page.cursor
    return History(acked_in(folder), runs_in(folder), await rows_in(queue), ends)


async def check(queue: AsyncOmniQ, history: History) -> None:
    """Nothing lost, one end each, no two runs of a task at once under live leases."""
    acked, runs, rows, ends = history
    assert not acked - runs.keys(), "acknowledged and never run"
    assert not runs.keys() - rows.keys(), "run, and unknown to the queue"
    assert acked <= rows.keys()
    assert Counter(row.status for row in rows.values()) == {Status.SUCCEEDED: len(rows)}
    assert {ends[id] for id in rows} == {1}, "one final result each"
    for id, row in rows.items():
        assert row.losses or not _overlap(runs[id]), f"{id} was run twice at once"
    for id, value in await _results(queue, list(rows)):
        assert value == rows[id].epoch, f"the result of {id} is of another claim"


def check_claims(history: History) -> None:
    """Where no answer was lost: each task was handed out once, but for workers that fell silent.

    Such a silence costs two claims: whose chore it was, and who ran the task again.
    """
    for id, row in history.rows.items():
        assert row.epoch == 1 + 2 * row.losses, f"{id} was handed out under a live lease"
        assert len(history.runs[id]) <= 1 + row.losses, f"{id} was run under a live lease"


async def _results(queue: AsyncOmniQ, ids: list[str]) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for at in range(0, len(ids), 500):
        found += [(each.id, each.value) async for each in queue.results(ids[at : at + 500])]
    return found


def _overlap(runs: list[Run]) -> bool:
    ends = [run.end for run in runs]
    return any(end is None or end > later.start for end, later in zip(ends, runs[1:], strict=False))
