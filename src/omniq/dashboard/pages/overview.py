"""The overview: what is there, how fast it goes, what fails, who works."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from htpy import Element, Renderable, a, div, p, span, strong, table, tbody, td, th, thead, tr
from litestar import Controller, get
from litestar.di import NamedDependency

from omniq.dashboard.components.bits import card, empty, first_task
from omniq.dashboard.components.chart import Series, bars, curves, numbers
from omniq.dashboard.components.format import ago, count, duration, now_ms, when
from omniq.dashboard.components.icons import STATUS_HINT, STATUS_TEXT, icon, status_key
from omniq.dashboard.components.timeline import event_icon, sentence, short, told, tone
from omniq.dashboard.pages.workers import lanes, named, state
from omniq.dashboard.visit import Visit
from omniq.models.event import TaskEvent
from omniq.models.filters import EventFilter, QueueCount, TaskFilter
from omniq.models.row import TaskRow
from omniq.models.status import Status
from omniq.models.worker import MinuteMetric, WorkerCard, quantile

MINUTES = 60
LATELY = 12
TILES = (Status.READY, Status.RUNNING, Status.SCHEDULED, Status.SUCCEEDED, Status.FAILED)
RARE = tuple(status for status in Status if status not in TILES)
"""Told in a line of its own, and only while there are any."""


class MetricsViews(Controller):
    """The overview with its charts."""

    @get("/", name="omniq:overview")
    async def overview(self, visit: NamedDependency[Visit]) -> Any:
        return await visit.page("Overview", regions)


async def regions(visit: Visit) -> Sequence[Renderable]:
    reads = visit.reads
    counts, metrics, workers, oldest, events, newest = await asyncio.gather(
        reads.counts(),
        reads.metrics(MINUTES),
        reads.workers(),
        reads.oldest_ready(),
        reads.events(EventFilter(newest_first=True), limit=LATELY),
        reads.find(TaskFilter(), limit=LATELY),
    )
    waits = now_ms() - max(oldest.run_at, oldest.created_at) if oldest else None
    return [
        tiles(visit, counts),
        welcome(visit, counts, workers, waits),
        reads.drawn(("charts", visit.again()), metrics, lambda: charts(visit, metrics)),
        div("#lower.columns")[
            failing(visit, metrics),
            workers_card(visit, workers),
            recent(visit, lately(newest.tasks, events.events)),
        ],
    ]


def tiles(visit: Visit, counts: Sequence[QueueCount]) -> Element:
    """How many tasks are in each state; each tile leads to them."""
    by_status = total(counts)
    return div("#tiles.tiles", aria_live="polite", aria_atomic="false")[
        (
            a(
                f".tile.s-{status_key(status)}",
                href=visit.url("tasks", status=status_key(status)),
                id=f"tile-{status_key(status)}",
                title=f"{STATUS_TEXT[status]} {STATUS_HINT[status]}",
            )[
                span(".tile-name")[icon(status_key(status)), STATUS_TEXT[status]],
                strong(".num")[count(by_status[status])],
                span(".quiet")[STATUS_HINT[status]],
            ]
            for status in TILES
        )
    ]


def total(counts: Sequence[QueueCount]) -> Counter[Status]:
    """Tasks by status, all queues together."""
    found: Counter[Status] = Counter()
    for one in counts:
        found[one.status] += one.count
    return found


def welcome(
    visit: Visit, counts: Sequence[QueueCount], workers: Sequence[WorkerCard], waits: int | None
) -> Element:
    """What to do first; later, what needs a look."""
    if not any(one.count for one in counts):
        return div("#advice")[
            empty(
                "No task yet",
                p["Put the first one in from any program that uses the same place:"],
                first_task(),
                p(".quiet")["It appears here by itself. "],
            )
        ]
    if waits is not None and waits > 60_000 and not workers:
        return div("#advice")[
            div(".notice.warn")[
                span(".mark", aria_hidden="true")[icon("alert")],
                p[
                    f"The oldest ready task has waited {duration(waits)} and no worker is alive. "
                    "Start one: ",
                    span(".code")["omniq worker your_module:queue"],
                ],
            ]
        ]
    held = total(counts)
    return div("#advice.facts")[
        p[
            span(".quiet")["Oldest ready task "],
            strong(".num")[f"waits {duration(waits)}" if waits is not None else "none waits"],
        ],
        p[
            span(".quiet")["Workers alive "],
            strong(".num")[str(sum(1 for one in workers if not one.stopping))],
        ],
        (
            p[
                a(
                    f".s-{status_key(status)}",
                    href=visit.url("tasks", status=status_key(status)),
                    title=STATUS_HINT[status],
                )[icon(status_key(status)), f" {STATUS_TEXT[status]} "],
                strong(".num")[count(held[status])],
            ]
            for status in RARE
            if held[status]
        ),
    ]


def charts(visit: Visit, metrics: Sequence[MinuteMetric]) -> Element:
    """Throughput and latency; while there is little to show, of fewer minutes."""
    stamps = [metric.minute // 60_000 for metric in metrics]
    last = max(now_ms() // 60_000, max(stamps, default=0))
    age = last - min(stamps, default=last) + 1
    minutes = next(some for some in (15, 30, MINUTES) if age <= some or some == MINUTES)
    ok: list[float | None] = [0.0] * minutes
    failed: list[float | None] = [0.0] * minutes
    run: list[dict[int, int]] = [{} for _ in range(minutes)]
    wait: list[dict[int, int]] = [{} for _ in range(minutes)]
    for metric in metrics:
        place = minutes - 1 - (last - metric.minute // 60_000)
        if not 0 <= place < minutes:
            continue
        for item in metric.items:
            ok[place] = (ok[place] or 0) + item.ok
            failed[place] = (failed[place] or 0) + item.failed
            _add(run[place], item.run)
            _add(wait[place], item.wait)
    done, lost = sum(v or 0 for v in ok), sum(v or 0 for v in failed)
    told = f"{count(int(done))} succeeded and {count(int(lost))} failed in {minutes} minutes"
    good, bad = Series("Succeeded", "ok", ok), Series("Failed", "bad", failed)
    runs, waits = _latency(run), _latency(wait)
    as_table = visit.param("as") == "table"
    toggle = a(".as", href=visit.again(**{"as": None if as_table else "table"}))[
        "As charts" if as_table else "As a table"
    ]
    if as_table:
        columns: list[tuple[str, Series, Callable[[float], str]]] = [
            *((one.label, one, _whole) for one in (good, bad)),
            *((f"Run {one.label}", one, duration) for one in runs),
            *((f"In line {one.label}", one, duration) for one in waits),
        ]
        return div("#charts.card")[numbers(columns, minutes), toggle]
    return div("#charts.card")[
        div(".charts")[
            bars("throughput", "Tasks per minute", [good, bad], minutes, told),
            curves("run", "Run time", runs, minutes, _said(run)),
            curves("wait", "Time in line", waits, minutes, _said(wait)),
        ],
        toggle,
    ]


def _whole(number: float) -> str:
    return count(int(number))


def _add(into: dict[int, int], more: dict[int, int]) -> None:
    for key, number in more.items():
        into[int(key)] = into.get(int(key), 0) + number


def _latency(histograms: Sequence[dict[int, int]]) -> list[Series]:
    return [
        Series("p50", "mid", [quantile(one, 0.5) for one in histograms]),
        Series("p95", "high", [quantile(one, 0.95) for one in histograms]),
    ]


def _said(histograms: Sequence[dict[int, int]]) -> str:
    whole: dict[int, int] = {}
    for histogram in histograms:
        _add(whole, histogram)
    return f"p50 {duration(quantile(whole, 0.5))}, p95 {duration(quantile(whole, 0.95))}"


def failing(visit: Visit, metrics: Sequence[MinuteMetric]) -> Element:
    """The task names with the most failures of the last hour."""
    bad: Counter[tuple[str, str]] = Counter()
    again: Counter[tuple[str, str]] = Counter()
    for metric in metrics:
        for item in metric.items:
            bad[(item.name, item.queue)] += item.failed
            again[(item.name, item.queue)] += item.retried
    worst = [(key, number) for key, number in bad.most_common(6) if number]
    if not worst:
        return card("failing", "Failing", empty("Nothing failed in the last hour"))
    return card(
        "failing",
        "Failing",
        table(".list")[
            thead[tr[th["Task"], th(".num")["Failed"], th(".num")["Retried"]]],
            tbody[
                (
                    tr[
                        td[
                            a(href=visit.url("tasks", status="failed", name=name))[name],
                            div(".quiet")[queue],
                        ],
                        td(".num")[count(number)],
                        td(".num")[count(again[(name, queue)])],
                    ]
                    for (name, queue), number in worst
                )
            ],
        ],
        aside=span(".quiet")["last hour"],
    )


def workers_card(visit: Visit, workers: Sequence[WorkerCard]) -> Element:
    if not workers:
        body: Renderable = empty(
            "No worker is alive",
            p["Tasks wait until one starts:"],
            p[span(".code")["omniq worker your_module:queue"]],
        )
    else:
        body = div(".workers")[
            (
                a(".worker", href=visit.url("workers") + f"#w-{one.id}", id=f"o-{one.id}")[
                    div(".worker-head")[
                        state(one),
                        span[named(one)],
                        span(".quiet")[ago(one.seen_at)],
                    ],
                    lanes(one),
                ]
                for one in workers[:6]
            )
        ]
    return card(
        "workers-now", "Workers", body, aside=a(href=visit.url("workers"))[f"All {len(workers)}"]
    )


def lately(rows: Sequence[TaskRow], events: Sequence[TaskEvent]) -> list[TaskEvent]:
    """What happened last: the events that are kept, and the ordinary course of the newest tasks."""
    known: dict[str, list[TaskEvent]] = defaultdict(list)
    for event in events:
        known[event.task].append(event)
    for row in rows:
        known[row.id] = told(row, known[row.id])
    found = [event for of_task in known.values() for event in of_task]
    return sorted(found, key=lambda one: (one.at, one.task, one.epoch, one.n))[: -LATELY - 1 : -1]


def recent(visit: Visit, events: Sequence[TaskEvent]) -> Element:
    if not events:
        return card("recent", "Recent events", empty("Nothing happened yet"))
    return card(
        "recent",
        "Recent events",
        div(".events")[
            (
                div(f".event.{tone(one) or 'plain'}")[
                    span(".mark", aria_hidden="true")[event_icon(one)],
                    span(".what")[sentence(one)],
                    (
                        a(href=visit.url("tasks", one.task))[one.name or short(one.task)]
                        if ":" not in one.task
                        else span[short(one.task)]
                    ),
                    span(".quiet.at")[when(one.at)],
                ]
                for one in events
            )
        ],
        aside=a(href=visit.url("events"))["All"],
    )
