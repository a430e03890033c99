"""One task: what it was given, what became of it, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from htpy import Element, Node, Renderable, a, code, dd, div, dl, dt, p, pre, span, strong

from omniq.dashboard.components.bits import (
    action,
    badge,
    card,
    empty,
    fold,
    progress_bar,
    tag_list,
)
from omniq.dashboard.components.format import duration, moment, now_ms, when
from omniq.dashboard.components.timeline import event_list, plain_type, strip, told
from omniq.dashboard.components.value import block, shown
from omniq.dashboard.visit import Body, Visit
from omniq.errors import TaskNotFound
from omniq.models.event import TaskEvent
from omniq.models.filters import EventFilter
from omniq.models.info import TaskInfo
from omniq.models.result import AttemptError
from omniq.models.status import Status

REPLAYABLE = (Status.FAILED, Status.CANCELLED, Status.EXPIRED)
EVENTS = 200


def page(task_id: str) -> Body:
    """The page of this task."""

    async def regions(visit: Visit) -> Sequence[Renderable]:
        try:
            info, found = await asyncio.gather(
                visit.reads.info(task_id),
                visit.reads.events(EventFilter(task=task_id), limit=EVENTS),
            )
        except TaskNotFound:  # removed while somebody looks at it
            gone = empty("This task does not exist any more")
            return [div("#task-head")[gone], *(div(id=one) for one in ("task-strip", "task-main"))]
        return [
            _head(visit, info),
            div("#task-strip.card")[strip(info.row, found.events, info.errors)],
            div("#task-main.columns.wide-first")[
                div[_outcome(info), _arguments(info), _errors(info), _metadata(info)],
                div[_facts(visit, info), _life(visit, info, found.events)],
            ],
        ]

    return regions


def _head(visit: Visit, info: TaskInfo) -> Element:
    row = info.row
    return div("#task-head")[
        div(".head-line")[
            badge(row.status),
            span(".badge.s-expired")["Stop asked"] if row.cancel else None,
            code(".id")[row.id],
            tag_list(row.tags),
            div(".actions")[_actions(visit, info)] if visit.may_act else None,
        ],
        _progress(info),
    ]


def _progress(info: TaskInfo) -> Node:
    if info.progress is None:
        return None
    return (
        progress_bar(info.progress)
        or div(".progress")[span(".quiet")["Progress"], block("progress", info.progress)]
    )


def _actions(visit: Visit, info: TaskInfo) -> list[Element]:
    row, fields = info.row, visit.fields

    def url(word: str) -> str:
        return visit.url("tasks", row.id, word)

    found: list[Element] = []
    if row.status in REPLAYABLE and visit.may("retry"):
        found.append(action(url("retry"), fields, "Retry", "retry", tone=".primary"))
    if row.status is Status.SCHEDULED and visit.may("retry"):
        found.append(action(url("retry"), fields, "Run now", "play", tone=".primary"))
    if not row.status.final and visit.may("cancel"):
        word = "Stop" if row.status is Status.RUNNING else "Cancel"
        found.append(action(url("cancel"), fields, word, "stop"))
    if row.status.final and visit.may("delete"):
        found.append(
            fold(
                "delete",
                "Delete",
                p["The task and its result are removed for good."],
                action(url("delete"), fields, "Delete it", "trash", live=False, tone=".danger"),
            )
        )
    return found


def _outcome(info: TaskInfo) -> Element:
    row = info.row
    if row.status is Status.SUCCEEDED:
        if info.result is None:
            return card("result", "Result", p(".quiet")["Its time is up: it is no longer kept."])
        return card("result", "Result", shown("result", info.result))
    if row.status is Status.FAILED and info.errors:
        return card("result", "Error", _error(info.errors[-1], len(info.errors), last=True))
    waiting = {
        Status.RUNNING: "It runs: the result will stand here.",
        Status.FAILED: row.fault or "It failed.",
        Status.CANCELLED: "It was cancelled, so there is no result.",
        Status.EXPIRED: "No worker was free before its time was up.",
    }
    return card("result", "Result", p(".quiet")[waiting.get(row.status, "It has not run yet.")])


def _arguments(info: TaskInfo) -> Element:
    given = info.arguments
    if given is None or not given.opened or not isinstance(given.value, dict):
        return card("arguments", "Arguments", shown("arguments", given))
    args, kwargs = given.value.get("args") or [], given.value.get("kwargs") or {}
    if not args and not kwargs:
        return card("arguments", "Arguments", p(".quiet")["Called without arguments."])
    return card(
        "arguments",
        "Arguments",
        block("args", list(args)) if args else None,
        block("kwargs", kwargs) if kwargs else None,
    )


def _errors(info: TaskInfo) -> Element | None:
    shown_above = info.row.status is Status.FAILED
    earlier = info.errors[:-1] if shown_above else info.errors
    if not earlier:
        return None
    return card(
        "errors",
        "Failed attempts",
        (_error(error, place) for place, error in reversed(list(enumerate(earlier)))),
    )


def _error(error: AttemptError, place: int, *, last: bool = False) -> Element:
    return div(".error")[
        p[
            strong[plain_type(error.type)],
            span(".quiet")[
                f" · attempt {error.attempt}", [" · ", when(error.at)] if error.at else None
            ],
        ],
        p(".said")[error.message] if error.message else None,
        (
            fold(
                f"traceback-{place}",
                "Traceback",
                pre(".traceback", tabindex="0")[code[error.traceback]],
                open=last,
            )
            if error.traceback
            else None
        ),
    ]


def _facts(visit: Visit, info: TaskInfo) -> Element:
    row = info.row
    due = max(row.created_at, row.run_at)
    end = row.finished_at or (now_ms() if row.status is Status.RUNNING else None)
    pairs: list[tuple[str, Node]] = [
        ("Queue", a(href=visit.url("tasks", queue=row.queue))[row.queue]),
        ("Task", a(href=visit.url("tasks", name=row.name))[row.name]),
        ("Lane", row.lane),
        ("Priority", str(row.priority) if row.priority else None),
        ("Created", moment(row.created_at)),
        ("Planned for", moment(row.run_at) if row.run_at > row.created_at else None),
        ("Started", moment(row.started_at) if row.started_at else None),
        ("Ended", moment(row.finished_at) if row.finished_at else None),
        ("Waited", duration(max(0, row.started_at - due)) if row.started_at else None),
        ("Ran", duration(max(0, end - row.started_at)) if row.started_at and end else None),
        ("Attempts", f"{row.attempt}" + (f" of {info.retry.retries + 1}" if info.retry else "")),
        ("Workers lost", str(row.losses) if row.losses else None),
        ("Worker", _worker(visit, row.owner)),
        ("Timeout", duration(info.timeout * 1000) if info.timeout else None),
        ("Expires", when(row.expires_at) if row.expires_at and not row.status.final else None),
        ("Kept until", moment(row.keep_until) if row.keep_until else None),
        ("Waits for", f"{row.waiting} tasks" if row.waiting else None),
        ("Unique key", row.unique.key if row.unique else None),
        ("Group", row.group),
    ]
    return card(
        "facts",
        "Facts",
        dl(".pairs")[((dt[label], dd[value]) for label, value in pairs if value is not None)],
    )


def _worker(visit: Visit, owner: str | None) -> Node:
    if not owner:
        return None
    return a(".id", href=visit.url("tasks", worker=owner))[owner]


def _metadata(info: TaskInfo) -> Element | None:
    if not info.metadata:
        return None
    return card("metadata", "Metadata", block("metadata", info.metadata))


def _life(visit: Visit, info: TaskInfo, events: Sequence[TaskEvent]) -> Element:
    return card(
        "life",
        "Timeline",
        event_list(told(info.row, events, info.errors), lambda id: visit.url("tasks", worker=id)),
    )
