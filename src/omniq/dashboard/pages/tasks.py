"""The task list, one task, and what can be done with it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from htpy import Element, Renderable, a, div, nav, p, span, table, tbody, td, th, thead, tr
from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from omniq.dashboard.components.bits import badge, empty, first_task, pager, tag_list
from omniq.dashboard.components.filters import FIELDS, filter_form, task_filter
from omniq.dashboard.components.format import count, duration, now_ms, when
from omniq.dashboard.components.icons import STATUS_TEXT, icon, status_key
from omniq.dashboard.components.timeline import short
from omniq.dashboard.pages import task as one_task
from omniq.dashboard.visit import Visit
from omniq.errors import TaskNotFound
from omniq.ids import is_task_id
from omniq.models.filters import QueueCount
from omniq.models.row import TaskRow
from omniq.models.status import Status

PAGE = 50
TRAIL = 20
"""How many pages back the link to newer ones remembers."""


class TaskViews(Controller):
    """Tasks: the list, each one's page, and the three actions."""

    @get("/tasks", name="omniq:tasks")
    async def tasks(self, visit: NamedDependency[Visit]) -> Any:
        if is_task_id(visit.param("q").lower()):
            return visit.go(visit.url("tasks", visit.param("q").lower()))
        return await visit.page("Tasks", regions, here="tasks")

    @get("/tasks/{task_id:str}", name="omniq:task")
    async def task(self, visit: NamedDependency[Visit], task_id: FromPath[str]) -> Any:
        if is_task_id(task_id) and visit.param("live"):  # which says itself if it is gone
            return await visit.page("Task", one_task.page(task_id), here="tasks")
        try:
            info = await visit.reads.info(task_id) if is_task_id(task_id) else None
        except TaskNotFound:
            info = None
        if info is None:
            return await visit.missing("No such task", "It never was, or its time is up.")
        return await visit.page(info.row.name, one_task.page(task_id), here="tasks")

    @post("/tasks/{task_id:str}/{action:str}", name="omniq:act", opt={"exclude_from_csrf": True})
    async def act(
        self, visit: NamedDependency[Visit], task_id: FromPath[str], action: FromPath[str]
    ) -> Response[Any]:
        """Retry, cancel or delete; the queue notes who did it."""
        fields = await visit.action_form(action)
        if isinstance(fields, Response):
            return fields
        queue, actor = visit.queue, visit.principal.name if visit.principal else ""
        calls = {
            "retry": (queue.retry, "retried"),
            "cancel": (queue.cancel, "cancelled"),
            "delete": (queue.delete, "deleted"),
        }
        if action not in calls or not is_task_id(task_id):
            return await visit.missing("No such action", "Only retry, cancel and delete are.")
        call, word = calls[action]
        back = visit.url("tasks", task_id)
        try:
            worked = await call(task_id, actor=actor)
        except TaskNotFound:
            return visit.done("gone", visit.url("tasks"))
        if action == "delete" and worked:
            back = visit.url("tasks")
        return visit.done(word if worked else f"not-{word}", back)


async def regions(visit: Visit) -> Sequence[Renderable]:
    asked = task_filter(visit.param)
    found, counts, metrics = await asyncio.gather(
        visit.reads.find(asked, limit=PAGE, cursor=visit.param("after") or None),
        visit.reads.counts(),
        visit.reads.metrics(60),
    )
    names = {item.name for metric in metrics for item in metric.items}
    names |= {row.name for row in found.tasks}
    queues = sorted({one.queue for one in counts} | set(asked.queues))
    return [
        tabs(visit, counts),
        filter_form(
            visit.url("tasks"),
            visit.param,
            queues=queues,
            names=sorted(names)[:100],
            clear=visit.url("tasks"),
        ),
        visit.reads.drawn(
            ("tasks", visit.again()),
            found,
            lambda: div("#list")[_list(visit, found.tasks, any(one.count for one in counts))],
        ),
        div("#pager")[pager(*_beside(visit, found.cursor))],
    ]


def _beside(visit: Visit, cursor: str | None) -> tuple[str | None, str | None]:
    """Links to the newer and the older page. Cursors lead one way only, so the way come is
    kept in the URL."""
    here, trail = visit.param("after"), [one for one in visit.param("trail").split("~") if one]
    newer = None
    if here:
        newer = visit.again(after=trail[-1] if trail else None, trail="~".join(trail[:-1]) or None)
    older = None
    if cursor:
        way = [*trail, here][-TRAIL:] if here else trail
        older = visit.again(after=cursor, trail="~".join(way) or None)
    return newer, older


def tabs(visit: Visit, counts: Sequence[QueueCount]) -> Element:
    """States with how many tasks of the chosen queue they hold."""
    chosen, queue = visit.param("status"), visit.param("queue")
    held: Counter[Status] = Counter()
    for one in counts:
        if not queue or one.queue == queue:
            held[one.status] += one.count

    def tab(key: str, label: str, number: int, drawing: str | None) -> Element:
        return a(
            f".tab{'.s-' + key if key else ''}",
            href=visit.again(status=key or None, after=None, trail=None),
            aria_current="page" if chosen == key else None,
        )[icon(drawing) if drawing else None, label, span(".num")[count(number)]]

    return nav("#tabs.tabs", aria_label="States")[
        tab("", "All", sum(held.values()), None),
        (
            tab(status_key(s), STATUS_TEXT[s], held[s], status_key(s))
            for s in Status
            if held[s] or status_key(s) == chosen or s in (Status.READY, Status.FAILED)
        ),
    ]


def _list(visit: Visit, rows: Sequence[TaskRow], any_at_all: bool) -> Renderable:
    if not rows:
        if not any_at_all:
            return empty("No task yet", p["Enqueue the first one:"], first_task())
        asked = any(visit.param(name) for name in FIELDS)
        return empty(
            "Nothing matches" if asked else "Nothing here",
            p[a(href=visit.url("tasks"))["Show all tasks"]],
        )
    return table(".list.tasks")[
        thead[
            tr[
                th["Status"],
                th["Task"],
                th["Queue"],
                th["Created"],
                th(".num")["Waited"],
                th(".num")["Ran"],
                th(".num", title="Attempts")["Tries"],
            ]
        ],
        tbody[(_row(visit, row) for row in rows)],
    ]


def _row(visit: Visit, row: TaskRow) -> Element:
    waited, ran = times(row)
    return tr(id=f"t-{row.id}")[
        td[badge(row.status)],
        td(".main")[
            a(href=visit.url("tasks", row.id))[row.name],
            span(".preview")[row.preview] if row.preview else None,
            div(".under")[
                span(".id.quiet")[short(row.id)],
                span(".fault")[row.fault] if row.fault and row.status is Status.FAILED else None,
                tag_list(row.tags),
            ],
        ],
        td(data_label="Queue")[a(href=visit.again(queue=row.queue, after=None))[row.queue]],
        td(data_label="Created")[when(row.created_at)],
        td(".num", data_label="Waited")[duration(waited)],
        td(".num", data_label="Ran")[duration(ran)],
        td(".num", data_label="Tries")[str(row.attempt)],
    ]


def times(row: TaskRow) -> tuple[int | None, int | None]:
    """Milliseconds a task waited for its last start, and ran since; None: not yet."""
    due = max(row.created_at, row.run_at)
    if row.started_at is None:
        if row.status is Status.READY:
            return max(0, now_ms() - due), None
        return None, None
    end = row.finished_at if row.status.final else None
    if row.status is Status.RUNNING:
        end = now_ms()
    ran = max(0, end - row.started_at) if end is not None else None
    return max(0, row.started_at - due), ran
