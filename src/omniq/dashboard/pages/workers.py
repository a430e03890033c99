"""Workers: who is there, what they run, how long ago they were heard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from htpy import Element, Renderable, a, dd, div, dl, dt, h2, p, section, span
from litestar import Controller, get
from litestar.di import NamedDependency

from omniq.dashboard.components.bits import empty, meter
from omniq.dashboard.components.format import moment, now_ms, when
from omniq.dashboard.components.icons import icon
from omniq.dashboard.components.timeline import short
from omniq.dashboard.visit import Visit
from omniq.models.worker import WorkerCard

LATE = 15_000
"""Milliseconds without a heartbeat after which a worker is called late."""


class WorkerViews(Controller):
    @get("/workers", name="omniq:workers")
    async def workers(self, visit: NamedDependency[Visit]) -> Any:
        return await visit.page("Workers", regions, here="workers")


async def regions(visit: Visit) -> Sequence[Renderable]:
    workers = sorted(await visit.reads.workers(), key=lambda one: (one.stopping, one.started_at))
    if not workers:
        return [
            div("#workers")[
                empty(
                    "No worker is alive",
                    p["An app with OmniQ's plugin starts one by itself. Alone it is started so:"],
                    p[span(".code")["omniq worker your_module:queue"]],
                )
            ]
        ]
    return [div("#workers.cards")[(_card(visit, one) for one in workers)]]


def named(worker: WorkerCard) -> str:
    """A worker as people call it: its machine's name, without what tells containers apart."""
    return f"{worker.host.partition('/')[0] or worker.host} · {worker.pid}"


def state(worker: WorkerCard) -> Element:
    """Alive, late or stopping, by shape and word."""
    if worker.stopping:
        return span(".badge.s-cancelled")[icon("stop"), "Stopping"]
    if now_ms() - worker.seen_at > LATE:
        return span(".badge.s-expired")[icon("alert"), "Late"]
    return span(".badge.s-succeeded")[icon("check"), "Alive"]


def lanes(worker: WorkerCard) -> list[Element]:
    """Slots used and there, lane by lane."""
    return [
        div(".lane")[
            span(".lane-name")[lane],
            meter(worker.running.get(lane, 0), of, f"Slots of the {lane} lane in use"),
            span(".num")[f"{worker.running.get(lane, 0)} / {of}"],
        ]
        for lane, of in sorted(worker.slots.items())
    ]


def _card(visit: Visit, worker: WorkerCard) -> Element:
    return section(".card", id=f"w-{worker.id}", aria_labelledby=f"w-{worker.id}-h")[
        div(".card-head")[
            h2(id=f"w-{worker.id}-h", title=worker.host)[named(worker)], state(worker)
        ],
        lanes(worker),
        dl(".pairs")[
            dt["Heartbeat"],
            dd[when(worker.seen_at)],
            dt["Started"],
            dd[moment(worker.started_at)],
            dt["Serves"],
            dd[", ".join(worker.queues) or "every queue"],
            dt["Kind"],
            dd["inside an app" if worker.embedded else "on its own"],
            dt["Version"],
            dd(".num")[worker.version],
            dt["Id"],
            dd(".id")[a(href=visit.url("tasks", worker=worker.id))[worker.id]],
        ],
        (
            div(".running")[
                p(".quiet")["Runs now"],
                (a(".chip", href=visit.url("tasks", id))[short(id)] for id in worker.tasks[:20]),
                (
                    span(".quiet")[f"and {len(worker.tasks) - 20} more"]
                    if len(worker.tasks) > 20
                    else None
                ),
            ]
            if worker.tasks
            else None
        ),
    ]
