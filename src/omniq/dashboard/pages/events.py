"""The log of events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from htpy import (
    Element,
    Renderable,
    a,
    button,
    div,
    form,
    input,
    label,
    option,
    p,
    select,
    span,
    table,
    tbody,
    td,
    th,
    thead,
    time,
    tr,
)
from litestar import Controller, get
from litestar.di import NamedDependency

from omniq.dashboard.components.bits import empty, pager
from omniq.dashboard.components.format import clock, iso
from omniq.dashboard.components.timeline import detail, event_icon, sentence, short, tone
from omniq.dashboard.visit import Visit
from omniq.models.event import TaskEvent
from omniq.models.filters import EventFilter
from omniq.models.status import EventType

PAGE = 100
TYPES = {type_.value: type_ for type_ in EventType}


class EventViews(Controller):
    @get("/events", name="omniq:events")
    async def events(self, visit: NamedDependency[Visit]) -> Any:
        return await visit.page("Events", regions, here="events")


async def regions(visit: Visit) -> Sequence[Renderable]:
    type_ = TYPES.get(visit.param("type"))
    asked = EventFilter(
        task=visit.param("task") or None,
        types=(type_,) if type_ else (),
        queues=(visit.param("queue"),) if visit.param("queue") else (),
        names=(visit.param("name"),) if visit.param("name") else (),
        newest_first=True,
    )
    found, counts = await asyncio.gather(
        visit.reads.events(asked, after=visit.param("after") or None, limit=PAGE),
        visit.reads.counts(),
    )
    queues = sorted({one.queue for one in counts} | set(asked.queues))
    newest = visit.again(after=None) if visit.param("after") else None
    older = visit.again(after=found.cursor) if len(found.events) >= PAGE else None
    return [
        _form(visit, queues),
        visit.reads.drawn(
            ("events", visit.again()),
            found,
            lambda: div("#events.scroll")[_table(visit, found.events)],
        ),
        div("#pager")[pager(newest, older), _level(visit)],
    ]


def _level(visit: Visit) -> Element | None:
    """Why something may be missing here."""
    level = visit.desk.config.events.level
    if level == "DEBUG":
        return None
    return p(".quiet.note")[
        f"Events are kept at level {level}: the ordinary course of a task (enqueued, started, "
        "completed) stands on its own page, and here at level DEBUG."
    ]


def _form(visit: Visit, queues: Sequence[str]) -> Element:
    filtered = any(visit.param(name) for name in ("type", "task", "queue", "name"))
    return form("#filters.filters", method="get", action=visit.url("events"), role="search")[
        label[
            span["Event"],
            select(name="type")[
                option(value="")["All events"],
                (
                    option(value=word, selected=word == visit.param("type"))[
                        word.replace("_", " ").capitalize()
                    ]
                    for word in TYPES
                ),
            ],
        ],
        label[
            span["Queue"],
            select(name="queue")[
                option(value="")["All queues"],
                (option(value=q, selected=q == visit.param("queue"))[q] for q in queues),
            ],
        ],
        label[span["Task"], input(name="name", value=visit.param("name"), placeholder="any")],
        label(".grow")[
            span["Task id"], input(name="task", value=visit.param("task"), placeholder="any")
        ],
        button(".button.primary", type="submit")["Filter"],
        a(".button", href=visit.url("events"))["Clear"] if filtered else None,
    ]


def _table(visit: Visit, events: Sequence[TaskEvent]) -> Renderable:
    if not events:
        return empty("No event", p["Events appear as tasks are enqueued, run and end."])
    return table(".list.log")[
        thead[tr[th["When"], th["Event"], th["Task"], th["Queue"], th["Worker"], th["Detail"]]],
        tbody[(_row(visit, one) for one in events)],
    ]


def _row(visit: Visit, event: TaskEvent) -> Element:
    about_task = ":" not in event.task
    return tr(id=f"e-{event.task}-{event.epoch}-{event.n}")[
        td(".num.nowrap")[time(datetime=iso(event.at), data_clock=True)[clock(event.at)]],
        td(".nowrap")[
            span(f".event-name.{tone(event) or 'plain'}")[event_icon(event), sentence(event)]
        ],
        td(".main")[
            (
                a(href=visit.url("tasks", event.task))[event.name or short(event.task)]
                if about_task
                else short(event.task)
            ),
            span(".id.quiet")[" ", short(event.task)] if about_task and event.name else None,
        ],
        td(data_label="Queue")[event.queue],
        td(".id", data_label="Worker")[short(event.worker)],
        td(".more.quiet")[detail(event)],
    ]
