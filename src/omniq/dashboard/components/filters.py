"""The task list's question, to and from a URL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from htpy import Element, a, button, datalist, div, form, input, label, option, select, span

from omniq.dashboard.components.bits import fold
from omniq.dashboard.components.format import now_ms
from omniq.dashboard.components.icons import icon, status_key
from omniq.models.filters import TaskFilter
from omniq.models.row import Ms
from omniq.models.status import Status

SINCE = {
    "15m": ("last 15 minutes", 900),
    "1h": ("last hour", 3600),
    "1d": ("last day", 86_400),
    "7d": ("last 7 days", 604_800),
}
FIELDS = ("status", "queue", "name", "q", "tag", "worker", "since", "from", "to")
STATUSES = {status_key(status): status for status in Status}


def task_filter(param: Callable[[str], str]) -> TaskFilter:
    """What the query asks for; words nobody knows ask for nothing."""
    status = STATUSES.get(param("status"))
    return TaskFilter(
        statuses=(status,) if status else (),
        queues=(param("queue"),) if param("queue") else (),
        names=(param("name"),) if param("name") else (),
        tag=param("tag") or None,
        owner=param("worker") or None,
        text=param("q") or None,
        created_from=_since(param("since")) or stamp(param("from")),
        created_to=stamp(param("to")),
    )


def _since(word: str) -> Ms | None:
    """The start of a relative range, on the ten seconds: so that viewers share an answer."""
    if word not in SINCE:
        return None
    return (now_ms() - SINCE[word][1] * 1000) // 10_000 * 10_000


def stamp(text: str) -> Ms | None:
    """A `datetime-local` value, read as UTC; None for anything else."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return int(found.timestamp() * 1000)


def filter_form(
    action: str,
    param: Callable[[str], str],
    *,
    queues: Iterable[str],
    names: Sequence[str],
    clear: str,
) -> Element:
    """A plain GET form: every answer has a URL that can be kept or sent to somebody."""
    more = any(param(name) for name in ("tag", "worker", "from", "to"))
    return form("#filters.filters", method="get", action=action, role="search")[
        input(type="hidden", name="status", value=param("status")) if param("status") else None,
        label(".grow")[
            span["Search"],
            input(
                type="search",
                name="q",
                value=param("q"),
                placeholder="in arguments, or a task id",
                data_key="/",
            ),
        ],
        label[
            span["Queue"],
            select(name="queue")[
                option(value="")["All queues"],
                (option(value=q, selected=q == param("queue"))[q] for q in queues),
            ],
        ],
        label[
            span["Task"],
            input(name="name", value=param("name"), list="task-names", placeholder="any"),
        ],
        label[
            span["Created"],
            select(name="since")[
                option(value="")["At any time"],
                (
                    option(value=word, selected=word == param("since"))[text]
                    for word, (text, _) in SINCE.items()
                ),
            ],
        ],
        button(".button.primary", type="submit")[icon("search"), "Filter"],
        a(".button", href=clear)["Clear"] if any(param(name) for name in FIELDS) else None,
        fold(
            "more-filters",
            "More filters",
            div(".more-filters")[
                label[span["Tag"], input(name="tag", value=param("tag"))],
                label[span["Worker"], input(name="worker", value=param("worker"))],
                label[
                    span["Created from (UTC)"],
                    input(type="datetime-local", name="from", value=param("from")),
                ],
                label[
                    span["Created to (UTC)"],
                    input(type="datetime-local", name="to", value=param("to")),
                ],
            ],
            open=more,
        ),
        datalist("#task-names")[(option(value=name) for name in names)],
    ]
