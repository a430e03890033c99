"""Small pictures, drawn on a 16-unit grid: a status is told by shape before it is by colour."""

from __future__ import annotations

from functools import cache

from htpy import path, svg
from markupsafe import Markup

from omniq.models.status import Status

_STROKES: dict[str, str] = {
    "waiting": "M3 4h4v4H3z M9 8h4v4H9z M5 8v2h4",
    "held": "M6 4v8 M10 4v8",
    "scheduled": "M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 0 1 0-11z M8 5v3l2.2 1.6",
    "ready": "M8 3a5 5 0 1 1 0 10a5 5 0 0 1 0-10z",
    "running": "M8 2.5a5.5 5.5 0 1 1-5.5 5.5 M6.6 5.6l3.6 2.4l-3.6 2.4z",
    "succeeded": "M3.2 8.4l3.2 3.2l6.4-7",
    "failed": "M5.5 2.5h5l3 3v5l-3 3h-5l-3-3v-5z M6.2 6.2l3.6 3.6 M9.8 6.2l-3.6 3.6",
    "cancelled": "M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 0 1 0-11z M4.2 4.2l7.6 7.6",
    "expired": "M4.5 2.5h7 M4.5 13.5h7 M5.2 2.5c0 3 5.6 4.5 5.6 11 M10.8 2.5c0 3-5.6 4.5-5.6 11",
    "check": "M3.2 8.4l3.2 3.2l6.4-7",
    "alert": "M8 2.5l6 11H2z M8 6.5v3 M8 11.6v.2",
    "pause": "M5.5 3.5v9 M10.5 3.5v9",
    "play": "M5 3.2l7.5 4.8L5 12.8z",
    "sun": "M8 5.2a2.8 2.8 0 1 1 0 5.6a2.8 2.8 0 0 1 0-5.6z M8 1.2v1.6 M8 13.2v1.6 M1.2 8h1.6"
    " M13.2 8h1.6 M3.2 3.2l1.1 1.1 M11.7 11.7l1.1 1.1 M3.2 12.8l1.1-1.1 M11.7 4.3l1.1-1.1",
    "moon": "M13.2 9.6A5.6 5.6 0 1 1 6.4 2.8a4.4 4.4 0 0 0 6.8 6.8z",
    "auto": "M8 2.5a5.5 5.5 0 1 1 0 11z M8 2.5a5.5 5.5 0 0 0 0 11",
    "search": "M7 2.8a4.2 4.2 0 1 1 0 8.4a4.2 4.2 0 0 1 0-8.4z M10.2 10.2l3.3 3.3",
    "retry": "M13 8a5 5 0 1 1-1.6-3.7 M13.2 2.2v2.9h-2.9",
    "trash": "M3 4.5h10 M6.3 4.5V3h3.4v1.5 M4.3 4.5l.6 8.5h6.2l.6-8.5",
    "stop": "M4.5 4.5h7v7h-7z",
    "older": "M9.8 3.5L5.3 8l4.5 4.5",
    "newer": "M6.2 3.5L10.7 8l-4.5 4.5",
    "leave": "M6.5 3h-3v10h3 M9.5 5l3 3l-3 3 M12.2 8H6",
}


@cache
def icon(name: str) -> Markup:
    """A drawing that says nothing by itself: the text beside it does."""
    drawing = svg(
        ".icon", viewBox="0 0 16 16", width="16", height="16", aria_hidden="true", focusable="false"
    )[path(d=_STROKES[name])]
    return Markup(drawing)


def status_key(status: int) -> str:
    """The word for a status in class names and URLs; unknown later ones have a word too."""
    try:
        return Status(status).name.lower()
    except ValueError:
        return "cancelled" if status >= 60 else "held"


STATUS_TEXT: dict[Status, str] = {
    Status.WAITING: "Waiting",
    Status.HELD: "Held",
    Status.SCHEDULED: "Scheduled",
    Status.READY: "Ready",
    Status.RUNNING: "Running",
    Status.SUCCEEDED: "Succeeded",
    Status.FAILED: "Failed",
    Status.CANCELLED: "Cancelled",
    Status.EXPIRED: "Expired",
}
STATUS_HINT: dict[Status, str] = {
    Status.WAITING: "for tasks they depend on",
    Status.HELD: "in line behind a limit",
    Status.SCHEDULED: "for later, or for a retry",
    Status.READY: "for the next free worker",
    Status.RUNNING: "right now",
    Status.SUCCEEDED: "result kept",
    Status.FAILED: "out of retries, kept for replay",
    Status.CANCELLED: "by somebody",
    Status.EXPIRED: "before a worker was free",
}
