"""Queues: how deep each one is, state by state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from htpy import Element, Renderable, a, div, p, rect, span, svg, table, tbody, td, th, thead, tr
from litestar import Controller, get
from litestar.di import NamedDependency

from omniq.dashboard.components.bits import empty, first_task
from omniq.dashboard.components.format import count
from omniq.dashboard.components.icons import STATUS_TEXT, icon, status_key
from omniq.dashboard.visit import Visit
from omniq.models.status import Status


class QueueViews(Controller):
    @get("/queues", name="omniq:queues")
    async def queues(self, visit: NamedDependency[Visit]) -> Any:
        return await visit.page("Queues", regions, here="queues")


async def regions(visit: Visit) -> Sequence[Renderable]:
    depth: dict[str, dict[Status, int]] = defaultdict(dict)
    for one in await visit.reads.counts():
        depth[one.queue][one.status] = depth[one.queue].get(one.status, 0) + one.count
    if not depth:
        body: Renderable = empty(
            "No queue yet",
            p["A queue comes into being with its first task:"],
            first_task(),
        )
        return [div("#queues")[body]]
    there = [
        status
        for status in Status
        if status in (Status.READY, Status.RUNNING, Status.SUCCEEDED, Status.FAILED)
        or any(held.get(status) for held in depth.values())
    ]
    most = max(1, *(sum(n for s, n in held.items() if not s.final) for held in depth.values()))
    return [
        div("#queues.scroll")[
            table(".list.queues")[
                thead[
                    tr[
                        th["Queue"],
                        (
                            th(f".num.s-{status_key(status)}")[
                                icon(status_key(status)), STATUS_TEXT[status]
                            ]
                            for status in there
                        ),
                    ]
                ],
                tbody[(_row(visit, queue, depth[queue], there, most) for queue in sorted(depth))],
            ]
        ]
    ]


def _row(
    visit: Visit, queue: str, held: dict[Status, int], there: Sequence[Status], most: int
) -> Element:
    return tr(id=f"q-{queue}")[
        td(".main")[a(href=visit.url("tasks", queue=queue))[queue], _bar(held, most)],
        (
            td(".num", data_label=STATUS_TEXT[status])[
                (
                    a(href=visit.url("tasks", queue=queue, status=status_key(status)))[
                        count(held[status])
                    ]
                    if held.get(status)
                    else span(".quiet")["0"]
                )
            ]
            for status in there
        ),
    ]


def _bar(held: dict[Status, int], most: int) -> Element:
    """What a queue still has to do, as wide as the queue is deep."""
    parts: list[Element] = []
    x = 0.0
    for status in Status:
        if held.get(status) and not status.final:
            wide = 100 * held[status] / most
            parts.append(
                rect(f".s-{status_key(status)}", x=f"{x:.2f}", width=f"{wide:.2f}", height="6")
            )
            x += wide
    said = ", ".join(
        f"{held[s]} {STATUS_TEXT[s].lower()}" for s in Status if held.get(s) and not s.final
    )
    return svg(
        ".bar-of-states",
        viewBox="0 0 100 6",
        preserveAspectRatio="none",
        role="img",
        aria_label=said or "nothing to do",
    )[parts]
