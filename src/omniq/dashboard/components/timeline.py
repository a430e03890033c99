"""A task's life: a strip of waits and runs to scale, and what happened, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from htpy import Element, Node, a, div, li, ol, p, rect, span, svg, time, title
from markupsafe import Markup
from msgspec import Struct

from omniq.dashboard.components.format import clock, duration, iso, now_ms
from omniq.dashboard.components.icons import icon
from omniq.models.event import TaskEvent
from omniq.models.result import AttemptError
from omniq.models.row import Ms, TaskRow
from omniq.models.status import EventType, Status

_ENDS = {
    EventType.COMPLETE: "ok",
    EventType.ERROR: "bad",
    EventType.DEAD: "bad",
    EventType.CANCELLED: "off",
    EventType.EXPIRED: "off",
    EventType.LEASE_LOST: "bad",
    EventType.UNKNOWN_FUNCTION: "bad",
    EventType.RETRY: "bad",
}
_FINAL = frozenset((EventType.COMPLETE, EventType.DEAD, EventType.CANCELLED, EventType.EXPIRED))
_DRAWINGS = {
    EventType.ENQUEUED: "ready",
    EventType.SCHEDULED: "scheduled",
    EventType.EXECUTING: "running",
    EventType.COMPLETE: "succeeded",
    EventType.ERROR: "failed",
    EventType.RETRY: "retry",
    EventType.CANCELLED: "cancelled",
    EventType.EXPIRED: "expired",
    EventType.DEAD: "failed",
    EventType.UNKNOWN_FUNCTION: "alert",
    EventType.WORKER_STARTED: "play",
    EventType.WORKER_STOPPED: "stop",
    EventType.LEASE_LOST: "alert",
    EventType.ACTION: "check",
}
_WORDS = {
    EventType.ENQUEUED: "Enqueued",
    EventType.SCHEDULED: "Scheduled",
    EventType.EXECUTING: "Started",
    EventType.COMPLETE: "Completed",
    EventType.ERROR: "Attempt failed",
    EventType.RETRY: "Will be retried",
    EventType.CANCELLED: "Cancelled",
    EventType.EXPIRED: "Expired before a start",
    EventType.DEAD: "Failed for good",
    EventType.UNKNOWN_FUNCTION: "Given back: the worker does not know the function",
    EventType.WORKER_STARTED: "Worker started",
    EventType.WORKER_STOPPED: "Worker stopped",
    EventType.LEASE_LOST: "Its worker stopped answering",
    EventType.ACTION: "Done by hand",
}

_RANK = {EventType.ENQUEUED: 0, EventType.SCHEDULED: 0, EventType.EXECUTING: 1}
_HAND = {"retry": "Retried", "cancel": "Cancelled", "delete": "Deleted"}
_SAID_ELSEWHERE = ("action", "actor", "attempt", "run_at", "traceback")


class Span(Struct, frozen=True):
    """A stretch of a task's life. `look`: planned, wait, run, ok, bad or off."""

    look: str
    label: str
    start: Ms
    end: Ms


_END_OF = {
    Status.SUCCEEDED: EventType.COMPLETE,
    Status.FAILED: EventType.DEAD,
    Status.CANCELLED: EventType.CANCELLED,
    Status.EXPIRED: EventType.EXPIRED,
}


def told(
    row: TaskRow, events: Sequence[TaskEvent], errors: Sequence[AttemptError] = ()
) -> list[TaskEvent]:
    """What happened to a task, in order.

    The ordinary course (enqueued, started, ended) is seldom kept as events: what is missing
    of it is told from the row's stamps, and from the attempts it remembers.
    """
    kinds = {event.type for event in events}
    found = list(events)

    def add(
        type: EventType, at: Ms | None, epoch: int, worker: str | None = None, **data: Any
    ) -> None:
        if at and type not in kinds:
            found.append(
                TaskEvent(
                    task=row.id,
                    epoch=epoch,
                    at=at,
                    type=type,
                    queue=row.queue,
                    name=row.name,
                    worker=worker or "",
                    data=data,
                )
            )

    if EventType.SCHEDULED not in kinds:
        add(EventType.ENQUEUED, row.created_at, 0)
    for error in errors:
        add(EventType.EXECUTING, error.started_at, 0, error.worker, attempt=error.attempt)
        said = {"attempt": error.attempt, "error": error.type, "message": error.message}
        add(EventType.ERROR, error.at, 0, error.worker, **said)
    if row.started_at not in {error.started_at for error in errors}:
        add(EventType.EXECUTING, row.started_at, row.epoch, row.owner)
    if row.status in _END_OF:
        add(_END_OF[row.status], row.finished_at, row.epoch, row.owner)
    return sorted(found, key=lambda one: (one.at, one.epoch, _RANK.get(one.type, 2), one.n))


def spans(
    row: TaskRow, events: Sequence[TaskEvent], now: Ms, errors: Sequence[AttemptError] = ()
) -> list[Span]:
    """The stretches between creation and end, from events where they are kept.

    A task that was replayed counts its attempts anew: each run through has its number.
    """
    found: list[Span] = []
    at, running, attempt, replay, over = row.created_at, False, 0, 0, 0
    once = not any(event.type is EventType.RETRY or _again(event) for event in events)
    due = row.run_at if once else row.created_at

    def waited(until: Ms) -> None:
        split = min(max(at, due), until)
        if split > at:
            found.append(Span("planned", "delay", at, split))
        if until > split:
            found.append(Span("wait", "waited", split, until))

    def label() -> str:
        return f"replay {replay}, attempt {attempt}" if replay else f"attempt {attempt}"

    for event in told(row, events, errors):
        if _again(event) and over:
            if over > at:
                waited(over)
            if event.at > over:
                found.append(Span("planned", "at rest", over, event.at))
            at = due = event.at
            replay, attempt, over = replay + 1, 0, 0
        if event.type in _FINAL:
            over = event.at
        if event.type is EventType.EXECUTING:
            waited(event.at)
            at, running, attempt = event.at, True, event.data.get("attempt") or attempt + 1
            if event.at == row.started_at:
                attempt = row.attempt
        elif event.type in _ENDS and running:
            found.append(Span(_ENDS[event.type], label(), at, event.at))
            at, running, due = event.at, False, event.at
        elif event.type is EventType.ERROR:  # when this attempt began is not kept
            attempt = event.data.get("attempt") or attempt + 1
            begin = min(max(at, due), event.at)
            if begin > at:
                found.append(Span("planned", "delay", at, begin))
            found.append(Span("bad", f"{label()} with its wait", begin, event.at))
            at = due = event.at
        if event.type is EventType.RETRY:
            due = event.data.get("run_at") or event.at
    if running and row.status is not Status.RUNNING and row.finished_at:
        look = {Status.SUCCEEDED: "ok", Status.FAILED: "bad"}.get(row.status, "off")
        found.append(Span(look, label(), at, row.finished_at))
    elif running:
        found.append(Span("run", label(), at, max(now, at)))
    elif not row.status.final:
        due = row.run_at
        waited(max(now, at, row.run_at if row.status is Status.SCHEDULED else 0))
    return found


def _again(event: TaskEvent) -> bool:
    """Whether somebody asked for another run."""
    return event.type is EventType.ACTION and event.data.get("action") == "retry"


def strip(
    row: TaskRow, events: Sequence[TaskEvent], errors: Sequence[AttemptError] = ()
) -> Element | None:
    """The stretches drawn to scale, the shortest still visible."""
    stretches = spans(row, events, now_ms(), errors)
    total = sum(one.end - one.start for one in stretches)
    if not stretches:
        return None
    least = 1.5
    widths = [max(least, 100 * (s.end - s.start) / total if total else least) for s in stretches]
    scale = 100 / sum(widths)
    drawn: list[Element] = []
    x = 0.0
    for one, width in zip(stretches, widths, strict=True):
        wide = width * scale
        told = f"{one.label}: {duration(one.end - one.start)}"
        drawn.append(
            rect(
                f".{one.look}",
                x=f"{x:.2f}",
                y="0",
                width=f"{max(wide - 0.3, 0.4):.2f}",
                height="10",
                rx="0.2",
            )[title[told]]
        )
        x += wide
    said = ", ".join(f"{one.label} {duration(one.end - one.start)}" for one in stretches)
    return div(".strip")[
        svg(viewBox="0 0 100 10", preserveAspectRatio="none", role="img", aria_label=said)[drawn],
        p(".legend")[
            (
                span(f".key.{one.look}")[f"{one.label} {duration(one.end - one.start)}"]
                for one in stretches[-8:]
            )
        ],
    ]


def sentence(event: TaskEvent) -> str:
    """An event in words."""
    if event.type is EventType.ACTION:
        done, actor = event.data.get("action", "changed"), event.data.get("actor")
        return f"{_HAND.get(done, done)} by {actor or 'hand'}"
    if event.type is EventType.ERROR and event.data.get("attempt"):
        return f"Attempt {event.data['attempt']} failed"
    return _WORDS.get(event.type, str(event.type))


def detail(event: TaskEvent) -> str:
    """What an event adds to its sentence, on one line."""
    data: dict[str, Any] = {k: v for k, v in event.data.items() if k not in _SAID_ELSEWHERE}
    error = [data.pop("error", None), data.pop("message", None)]
    parts = [": ".join(plain_type(str(part)) for part in error if part)]
    if isinstance(delay := data.pop("delay", None), (int, float)):
        parts.append(f"after {duration(delay * 1000)}")
    parts += [f"{key} {value}" for key, value in data.items() if value not in (None, "", [], {})]
    return ", ".join(part for part in parts if part)[:400]


def plain_type(name: str) -> str:
    """An exception's name without the room every Python has."""
    return name.removeprefix("builtins.")


def event_list(events: Sequence[TaskEvent], worker_url: Any) -> Element:
    """Events as a list with a line through it."""
    return ol(".timeline")[
        (
            li(f".t-{event.type.value.replace('_', '-')}")[
                span(".mark", aria_hidden="true")[icon(_DRAWINGS.get(event.type, "ready"))],
                div[
                    p(".what")[sentence(event),],
                    p(".more.quiet")[detail(event)] if detail(event) else None,
                    p(".quiet.num")[
                        time(datetime=iso(event.at), data_clock=True)[f"{clock(event.at)} UTC"],
                        _by(event, worker_url),
                    ],
                ],
            ]
            for event in events
        )
    ]


def _by(event: TaskEvent, worker_url: Any) -> Node:
    if not event.worker:
        return None
    return [" · ", a(href=worker_url(event.worker))[short(event.worker)]]


def event_icon(event: TaskEvent) -> Markup:
    return icon(_DRAWINGS.get(event.type, "ready"))


def tone(event: TaskEvent) -> str:
    return _ENDS.get(event.type, "")


def short(id: str) -> str:
    """The part of an id that tells it from its neighbours."""
    return id if len(id) <= 14 else f"…{id[-10:]}"
