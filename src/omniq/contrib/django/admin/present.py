"""What the admin shows of one task, as HTML. Every value is escaped, every secret masked."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django.contrib.admin.utils import quote
from django.urls import NoReverseMatch, reverse
from django.utils import formats, timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from omniq.contrib.django.models import Task, moment
from omniq.models.event import TaskEvent
from omniq.models.info import Shown, TaskInfo
from omniq.models.result import AttemptError
from omniq.models.row import Ms, TaskRow
from omniq.models.status import Status
from omniq.models.worker import WorkerCard

MAX_TEXT = 20_000
LATE = 15_000
"""Milliseconds without a heartbeat after which a worker is called late."""


def status(row: TaskRow) -> SafeString:
    """A status by word and colour."""
    try:
        known = Status(row.status)
    except ValueError:  # of a newer version
        return SafeString(str(int(row.status)))
    word = _("stop asked") if row.cancel and not known.final else Task.Status(known).label
    return _badge(known.name.lower(), word)


def _badge(tone: str, word: object) -> SafeString:
    return format_html('<span class="omniq-status omniq-{}">{}</span>', tone, word)


def duration(ms: float | None) -> str:
    """A length of time in its two largest units at most."""
    from omniq.dashboard.components.format import duration

    return duration(ms)


def ran(row: TaskRow) -> SafeString:
    """How long it ran, or has been running."""
    told = "–"
    if row.started_at is not None and (row.status.final or row.status is Status.RUNNING):
        end = row.finished_at if row.status.final else _now()
        told = duration(max(0, (end or row.started_at) - row.started_at))
    return format_html('<span class="omniq-whole">{}</span>', told)


def waited(row: TaskRow) -> str:
    """How long it waited for its last start since it could run."""
    due = max(row.created_at, row.run_at)
    if row.started_at is not None:
        return duration(max(0, row.started_at - due))
    return duration(max(0, _now() - due)) if row.status is Status.READY else "–"


def exactly(ms: Ms | None) -> SafeString:
    """A moment to the second, in the reader's format and time zone."""
    found = moment(ms)
    if found is None:
        return SafeString("–")
    local = timezone.localtime(found) if timezone.is_aware(found) else found
    date = formats.date_format(local, "SHORT_DATE_FORMAT")
    return format_html('<span class="omniq-whole">{} {}</span>', date, f"{local:%H:%M:%S}")


def arguments(shown: Shown | None) -> SafeString:
    """What the task is called with."""
    if shown is None or not shown.opened or not isinstance(shown.value, dict):
        return value(shown)
    args, kwargs = shown.value.get("args") or [], shown.value.get("kwargs") or {}
    if not args and not kwargs:
        return _quiet(_("Called without arguments."))
    return mark_safe("".join(_pre(part) for part in (list(args), kwargs) if part))


def value(shown: Shown | None) -> SafeString:
    """A stored value: opened where its format is plain, described where it is not."""
    if shown is None:
        return _quiet(_("Nothing stored."))
    if not shown.opened:
        return _quiet(
            _("%s, not opened here: this format can run code when it is decoded.")
            % (shown.text or shown.format)
        )
    return _pre(shown.value)


def _pre(value: Any) -> SafeString:
    from omniq.dashboard.components.value import masked

    text = json.dumps(masked(value), indent=2, ensure_ascii=False, default=_plain)
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}\n… " + _("the rest is left out")
    return format_html('<pre class="omniq-value" tabindex="0">{}</pre>', text)


def _plain(value: object) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    return str(value)


def outcome(info: TaskInfo) -> SafeString:
    """The result, or why there is none."""
    row = info.row
    if row.status is Status.SUCCEEDED:
        if info.result is None:
            return _quiet(_("Its time is up: it is no longer kept."))
        return value(info.result)
    if row.status is Status.FAILED:
        return _quiet(_("It failed: its errors stand below."))
    if row.status is Status.CANCELLED:
        return _quiet(_("It was cancelled, so there is no result."))
    if row.status is Status.EXPIRED:
        return _quiet(_("No worker was free before its time was up."))
    return _quiet(_("It has not ended yet."))


def errors(found: Iterable[AttemptError]) -> SafeString:
    """Failed attempts, the newest first and open."""
    newest_first = list(found)[::-1]
    if not newest_first:
        return _quiet(_("No attempt has failed."))
    return mark_safe("".join(_error(one, place == 0) for place, one in enumerate(newest_first)))


def _error(error: AttemptError, newest: bool) -> SafeString:
    return format_html(
        '<details class="omniq-error"{}><summary><strong>{}</strong> {} '
        '<span class="quiet">{}{}</span></summary>{}</details>',
        mark_safe(" open") if newest else "",
        error.type.removeprefix("builtins."),
        error.message[:2000],
        _("attempt %d") % error.attempt,
        format_html(" · {}", exactly(error.at)) if error.at else "",
        (
            format_html('<pre class="omniq-value" tabindex="0">{}</pre>', error.traceback)
            if error.traceback
            else ""
        ),
    )


def timeline(info: TaskInfo, events: list[TaskEvent]) -> SafeString:
    """What happened to a task, in order."""
    from omniq.dashboard.components.timeline import detail, sentence, told

    lines = format_html_join(
        "",
        '<li><span class="omniq-when">{}</span> <span>{}</span> <span class="quiet">{}</span></li>',
        (
            (exactly(event.at), sentence(event), " · ".join(filter(None, _more(event, detail))))
            for event in told(info.row, events, info.errors)
        ),
    )
    return format_html('<ol class="omniq-timeline">{}</ol>', lines)


def _more(event: TaskEvent, detail: Any) -> tuple[str, str]:
    return detail(event), f"…{event.worker[-10:]}" if event.worker else ""


def progress(info: TaskInfo) -> SafeString:
    """How far it is, if it tells."""
    told = info.progress
    if told is None:
        return _quiet("–")
    if isinstance(told, dict):
        done, total = told.get("done"), told.get("total")
        if isinstance(done, (int, float)) and isinstance(total, (int, float)) and total > 0:
            return format_html(
                '<progress value="{}" max="{}"></progress> {}',
                str(done),
                str(total),
                _("%(done)s of %(total)s") % {"done": f"{done:g}", "total": f"{total:g}"},
            )
    return _pre(told)


def _quiet(text: object) -> SafeString:
    return format_html('<span class="quiet">{}</span>', text)


# ---- workers


def state(card: WorkerCard) -> SafeString:
    """Alive, late or stopping."""
    if card.stopping:
        return _badge("cancelled", _("stopping"))
    if _now() - card.seen_at > LATE:
        return _badge("expired", _("late"))
    return _badge("succeeded", _("alive"))


def slots(card: WorkerCard) -> SafeString:
    """What each lane runs and could run."""
    return format_html_join(
        mark_safe("<br>"),
        '<span class="omniq-whole">{} {} / {}</span>',
        ((lane, card.running.get(lane, 0), of) for lane, of in sorted(card.slots.items())),
    )


def running(card: WorkerCard) -> SafeString:
    """The tasks it runs now, as links."""
    if not card.tasks:
        return _quiet("–")
    links = format_html_join(
        ", ",
        '<a class="omniq-whole" href="{}">…{}</a>',
        (
            (reverse("admin:omniq_task_change", args=(quote(id),)), id[-10:])
            for id in card.tasks[:10]
        ),
    )
    more = len(card.tasks) - 10
    return links if more <= 0 else format_html("{} {}", links, _("and %d more") % more)


def dashboard_url(*rest: str) -> str | None:
    """A page of the dashboard, if the project has its URLs."""
    try:
        return reverse("omniq:page", args=("/".join(rest),)) if rest else reverse("omniq:index")
    except NoReverseMatch:
        return None


def _now() -> Ms:
    return int(timezone.now().timestamp() * 1000)
