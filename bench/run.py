"""Runs the measurements and prints ratios; see README.md beside it."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))

import floors
import omniq_runs

PRODUCERS = 100


def interleaved(
    runs: int, *timed: Callable[[Path], Coroutine[None, None, float]]
) -> list[list[float]]:
    """Seconds of each candidate, run in turns, each time in a folder of its own."""
    taken: list[list[float]] = [[] for _ in timed]
    for _ in range(runs):
        for n, run in enumerate(timed):
            with tempfile.TemporaryDirectory() as folder:
                taken[n].append(asyncio.run(run(Path(folder))))
    return taken


def show(title: str, tasks: int, floor: list[float], ours: list[float], *, wanted: str) -> None:
    ratio = median(floor) / median(ours)
    print(f"{title}")
    for name, seconds in (("floor", floor), ("omniq", ours)):
        rates = ", ".join(f"{tasks / s:,.0f}" for s in seconds)
        print(f"  {name}: median {tasks / median(seconds):>9,.0f} tasks/s   ({rates})")
    print(f"  ratio: {ratio:.3f}   wanted: {wanted}\n", flush=True)


def throughput(runs: int, tasks: int) -> None:
    floor, bare, ours = interleaved(
        runs,
        lambda folder: floors.sqlite(tasks, folder / "floor.db"),
        lambda folder: floors.sqlite(tasks, folder / "floor.db", numbered=True),
        lambda folder: omniq_runs.throughput(tasks, folder / "omniq.db"),
    )
    title = f"SQLite, {tasks:,} no-op tasks"
    show(title, tasks, floor, ours, wanted="at least 0.35 of the floor")
    show(f"{title}, row numbers for ids", tasks, bare, ours, wanted="for orientation")
    floor, ours = interleaved(
        runs,
        lambda folder: floors.memory(tasks),
        lambda folder: omniq_runs.throughput(tasks, None),
    )
    show(f"memory, {tasks:,} no-op tasks", tasks, floor, ours, wanted="at least 0.05 of the floor")


def enqueue(runs: int, tasks: int) -> None:
    floor, tight, ours = interleaved(
        runs,
        lambda folder: floors.commit_per_task(tasks, PRODUCERS, folder / "floor.db"),
        lambda folder: floors.commit_in_one_hop(tasks, PRODUCERS, folder / "floor.db"),
        lambda folder: omniq_runs.enqueue(tasks, PRODUCERS, folder / "omniq.db"),
    )
    title = f"SQLite, enqueue from {PRODUCERS} producers against a commit per task"
    show(title, tasks, floor, ours, wanted="at least 5")
    show(f"{title} in one hop", tasks, tight, ours, wanted="for orientation")


def claims(runs: int, tasks: int) -> None:
    shapes = ((1_000, 0), (100_000, 0), (100_000, 100_000))
    medians: list[list[float]] = [[] for _ in shapes]
    for _ in range(max(1, min(runs, 3))):
        for n, (queued, scheduled) in enumerate(shapes):
            with tempfile.TemporaryDirectory() as folder:
                rounds = omniq_runs.claims(queued, scheduled, Path(folder) / "omniq.db")
                medians[n].append(median(asyncio.run(rounds)))
    base = median(medians[0])
    print("SQLite, settle 100 and claim 100")
    for (queued, scheduled), seconds in zip(shapes, medians, strict=True):
        cost = median(seconds)
        print(
            f"  {queued:>7,} queued, {scheduled:>7,} scheduled for tomorrow: "
            f"{cost * 1e4:6.1f} us/task   {cost / base:.2f} of the first   wanted: at most 1.2"
        )
    print(flush=True)


MEASUREMENTS = {"throughput": throughput, "enqueue": enqueue, "claims": claims}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", nargs="*", metavar="measurement", help=", ".join(MEASUREMENTS))
    parser.add_argument("--quick", action="store_true", help="one short run")
    chosen = parser.parse_args()
    runs, tasks = (1, 2_000) if chosen.quick else (5, 20_000)
    for name in chosen.which or MEASUREMENTS:
        MEASUREMENTS[name](runs, tasks)


if __name__ == "__main__":
    main()
