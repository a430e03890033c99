"""Runs the measurements and prints ratios; see README.md beside it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))

import ours
from floors import idle, memory, nats, postgres, redis, sqlite
from servers import PLACES, at

Run = Callable[[str, Path], Coroutine[None, None, float]]
"""Seconds of one run at a URL, with a folder of its own."""

PRODUCERS = 100
PROCESSES = 4


def sqlite_file(folder: Path) -> Path:
    return folder / "floor.db"


def interleaved(runs: int, *timed: tuple[str, Run]) -> list[list[float]]:
    """Seconds of each candidate (its place and what it runs), in turns."""
    taken: list[list[float]] = [[] for _ in timed]
    for _ in range(runs):
        for n, (place, run) in enumerate(timed):
            with tempfile.TemporaryDirectory() as folder:
                taken[n].append(asyncio.run(run(at(place, Path(folder)), Path(folder))))
    return taken


def show(title: str, tasks: int, floor: list[float], own: list[float], *, wanted: str) -> None:
    ratio = median(floor) / median(own)
    print(title)
    for name, seconds in (("floor", floor), ("omniq", own)):
        rates = ", ".join(f"{tasks / s:,.0f}" for s in seconds)
        print(f"  {name}: median {tasks / median(seconds):>9,.0f} tasks/s   ({rates})")
    print(f"  ratio: {ratio:.3f}   wanted: {wanted}\n", flush=True)


def throughput(runs: int, tasks: int, places: list[str]) -> None:
    floors: dict[str, tuple[str, Run, str]] = {
        "memory": ("memory", lambda url, folder: memory.throughput(tasks), "at least 0.05"),
        "sqlite": (
            "sqlite",
            lambda url, folder: sqlite.throughput(sqlite_file(folder), tasks),
            "at least 0.4",
        ),
        "postgres": (
            "postgres",
            lambda url, folder: postgres.throughput(url, tasks),
            "at least 0.4",
        ),
        "redis": ("redis", lambda url, folder: redis.throughput(url, tasks), "at least 0.4"),
        "nats": ("nats", lambda url, folder: nats.throughput(url, tasks), "at least 0.3"),
        "file": (
            "sqlite",
            lambda url, folder: sqlite.throughput(sqlite_file(folder), tasks),
            "at least 0.1 of SQLite's floor",
        ),
    }
    for place in places:
        base, run, wanted = floors[place]
        floor, own = interleaved(
            runs,
            (base, run),
            (place, lambda url, folder: ours.throughput(url, folder, tasks)),
        )
        show(f"{place}: {tasks:,} no-op tasks, 100 at once", tasks, floor, own, wanted=wanted)


def bulk(runs: int, tasks: int, places: list[str]) -> None:
    floors: dict[str, Run] = {
        "postgres": lambda url, folder: postgres.bulk(url, tasks),
        "redis": lambda url, folder: redis.bulk(url, tasks),
    }
    for place in places:
        if place in floors:
            floor, own = interleaved(
                runs,
                (place, floors[place]),
                (place, lambda url, folder: ours.bulk(url, folder, tasks)),
            )
            title = f"{place}: {tasks:,} tasks enqueued, 1,000 a call"
            show(title, tasks, floor, own, wanted="at least 0.4")
    if "redis" in places:
        floor, own = interleaved(
            runs,
            ("redis", lambda url, folder: redis.bulk(url, tasks, tight=True)),
            ("redis", lambda url, folder: ours.bulk(url, folder, tasks)),
        )
        title = f"redis: {tasks:,} tasks enqueued, against one script of SETs"
        show(title, tasks, floor, own, wanted="for orientation")


def enqueue(runs: int, tasks: int, places: list[str]) -> None:
    if "sqlite" not in places:
        return
    floor, tight, own = interleaved(
        runs,
        (
            "sqlite",
            lambda url, folder: sqlite.commit_per_task(sqlite_file(folder), tasks, PRODUCERS),
        ),
        (
            "sqlite",
            lambda url, folder: sqlite.commit_in_one_hop(sqlite_file(folder), tasks, PRODUCERS),
        ),
        ("sqlite", lambda url, folder: ours.produce(url, folder, tasks, PRODUCERS)),
    )
    title = f"sqlite: enqueue from {PRODUCERS} producers against a commit per task"
    show(title, tasks, floor, own, wanted="at least 5")
    show(f"{title} in one hop", tasks, tight, own, wanted="for orientation")


def claims(runs: int, tasks: int, places: list[str]) -> None:
    most = 10 * tasks
    shapes = ((most // 100, 0), (most, 0), (most, most))
    for place in places:
        if place in ("memory", "file", "nats"):
            continue
        medians: list[list[float]] = [[] for _ in shapes]
        for _ in range(max(1, min(runs, 3))):
            for n, (queued, later) in enumerate(shapes):
                with tempfile.TemporaryDirectory() as folder:
                    url = at(place, Path(folder))
                    rounds = asyncio.run(ours.claims(url, Path(folder), queued, later))
                    medians[n].append(median(rounds))
        base = median(medians[0])
        print(f"{place}: settle 100 and claim 100")
        for (queued, later), seconds in zip(shapes, medians, strict=True):
            cost = median(seconds)
            print(
                f"  {queued:>7,} queued, {later:>7,} scheduled for tomorrow: "
                f"{cost * 1e4:6.1f} us/task   {cost / base:.2f} of the first   wanted: at most 1.2"
            )
        print(flush=True)


def latency(runs: int, tasks: int, places: list[str]) -> None:
    wanted = {"sqlite": 5.0, "postgres": 3.0, "redis": 1.5, "nats": 1.5}
    for place in places:
        if place == "memory":
            continue
        own: list[float] = []
        floor: list[float] = []
        each = max(50, tasks // 100) // runs
        for _ in range(runs):
            with tempfile.TemporaryDirectory() as folder:
                url = at(place, Path(folder))
                if place in idle.TASKS:
                    floor += asyncio.run(idle.latency(place, url, each))
                own += asyncio.run(ours.latency(url, Path(folder), each))
        want = f"at most {wanted[place]} ms" if place in wanted else "for orientation"
        print(f"{place}: from enqueue to start in another, idle process")
        for name, taken in (("floor", floor), ("omniq", own)):
            if taken:
                taken.sort()
                middle, high = (1e3 * taken[int(len(taken) * share)] for share in (0.5, 0.99))
                print(f"  {name}: p50 {middle:.2f} ms, p99 {high:.2f} ms")
        ratio = f"{median(floor) / median(own):.2f} of the floor" if floor else "no floor"
        print(f"  {ratio}   wanted: p50 {want}\n", flush=True)


def crowd(runs: int, tasks: int, places: list[str]) -> None:
    for place in places:
        if place == "memory":
            continue
        floor: list[float] = []
        own: list[float] = []
        least: list[float] = []
        for _ in range(max(1, min(runs, 3))):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                floor.append(asyncio.run(sqlite.throughput(sqlite_file(folder), tasks)))
                url = at(place, folder)
                taken, shares = asyncio.run(ours.crowd(url, folder, tasks, PROCESSES))
                own.append(taken)
                least.append(min(shares))
        title = f"{place}: {PROCESSES} worker processes, against SQLite's floor"
        wanted = "at least 0.03" if place == "file" else "for orientation"
        show(title, tasks, floor, own, wanted=wanted)
        shares_text = ", ".join(f"{share:.0%}" for share in least)
        print(f"  the smallest share of a process: {shares_text}   wanted: at least 10%\n")


MEASUREMENTS = {run.__name__: run for run in (throughput, bulk, enqueue, claims, latency, crowd)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", nargs="*", metavar="measurement", help=", ".join(MEASUREMENTS))
    parser.add_argument("--place", action="append", choices=PLACES, help="only there")
    parser.add_argument("--quick", action="store_true", help="one short run")
    chosen = parser.parse_args()
    runs, tasks = (1, 2_000) if chosen.quick else (5, 20_000)
    logging.getLogger("omniq").setLevel(logging.ERROR)  # how durable NATS is, at every run
    for name in chosen.which or MEASUREMENTS:
        MEASUREMENTS[name](runs, tasks, chosen.place or list(PLACES))


if __name__ == "__main__":
    main()
