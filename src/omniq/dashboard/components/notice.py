"""What an action came to, told once: as a toast, or as a notice on the next page."""

from __future__ import annotations

from htpy import Element, div, p, span

from omniq.dashboard.components.icons import icon

NOTICES: dict[str, tuple[str, str]] = {
    "retried": ("good", "The task will run again."),
    "not-retried": ("warn", "Nothing to run again: the task has not failed or is under way."),
    "cancelled": ("good", "Cancelled; a running task has been asked to stop."),
    "not-cancelled": ("warn", "Nothing to cancel: the task has already ended."),
    "deleted": ("good", "The task and its result were deleted."),
    "not-deleted": ("warn", "Not deleted: only a task that has ended can be."),
    "gone": ("warn", "This task does not exist any more."),
    "signed-out": ("good", "You are signed out."),
}
"""Code -> (tone, sentence). Only codes travel in URLs, never text."""


def notice(code: str) -> Element | None:
    """A notice at the top of a page; None for a code nobody knows."""
    return _told(*NOTICES[code], ".notice") if code in NOTICES else None


def toast(code: str) -> Element:
    return _told(*NOTICES[code], ".notice.toast")


def said(tone: str, text: str) -> Element:
    """A toast of its own words."""
    return _told(tone, text, ".notice.toast")


def _told(tone: str, text: str, classes: str) -> Element:
    return div(f"{classes}.{tone}", role="status")[
        span(".mark", aria_hidden="true")[icon("check" if tone == "good" else "alert")], p[text]
    ]
