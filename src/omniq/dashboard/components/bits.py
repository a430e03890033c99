"""Small pieces that pages are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from datastar_py import action_generator as actions
from datastar_py import attribute_generator as attributes
from htpy import (
    Element,
    Node,
    Renderable,
    VoidElement,
    a,
    button,
    code,
    details,
    div,
    form,
    h2,
    input,
    p,
    pre,
    progress,
    rect,
    section,
    span,
    summary,
    svg,
)
from markupsafe import Markup

from omniq.dashboard.components.icons import STATUS_TEXT, icon, status_key
from omniq.models.status import Status

FIRST_TASK = """from omniq import TaskQueue

def add(x, y):
    return x + y

queue = TaskQueue()
task_id = queue.enqueue(add, args=(5, 10))
print(queue.get_result(task_id))  # 15"""


Fields = Sequence[tuple[str, str]]
"""What a form carries unseen: pairs of name and value."""


def hidden(fields: Fields) -> list[VoidElement]:
    return [input(type="hidden", name=name, value=value) for name, value in fields]


@cache
def badge(status: Status) -> Markup:
    """A status by shape, word and colour."""
    key = status_key(status)
    text = STATUS_TEXT.get(status, f"Status {int(status)}")
    return Markup(span(f".badge.s-{key}")[icon(key), text])


def card(id: str, heading: str, *content: Node, aside: Node = None, classes: str = "") -> Element:
    return section(f"#{id}.card{classes}", aria_labelledby=f"{id}-h")[
        div(".card-head")[h2(f"#{id}-h")[heading], aside], content
    ]


def empty(heading: str, *content: Node) -> Element:
    """What stands where nothing is yet: it says what to do next."""
    return div(".empty")[p(".empty-head")[heading], content]


def first_task() -> Element:
    """The shortest program that puts a task in."""
    return pre(".sample", tabindex="0", aria_label="A program that enqueues a task")[
        code[FIRST_TASK]
    ]


def fold(id: str, heading: Node, *content: Node, open: bool = False) -> Element:
    """Something to unfold; updates leave it as the reader has it."""
    return details(f"#{id}", dict(attributes.preserve_attr("open")), open=open)[
        summary[heading], content
    ]


def meter(used: int, of: int, label: str) -> Element:
    """How much of something is taken, drawn with attributes only."""
    width = 100 * min(used, of) / of if of else 0
    return svg(
        ".meter",
        viewBox="0 0 100 6",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{label}: {used} of {of}",
    )[
        rect(".rail", width="100", height="6"),
        rect(".fill", width=f"{width:.1f}", height="6"),
    ]


def progress_bar(value: object) -> Element | None:
    """A bar for progress of the form {"done": 3, "total": 10}; None for any other."""
    if not isinstance(value, dict):
        return None
    done, total = value.get("done"), value.get("total")
    if not isinstance(done, (int, float)) or not isinstance(total, (int, float)) or total <= 0:
        return None
    return div(".progress")[
        progress(value=f"{done}", max=f"{total}", aria_label="Progress"),
        span(".num")[f"{done:g} of {total:g}"],
        span(".quiet.num")[f"{min(100, 100 * done / total):.0f} %"],
    ]


def action(
    url: str, fields: Fields, label: str, drawing: str, *, live: bool = True, tone: str = ""
) -> Element:
    """A button that does something: a plain form, sent by the module where it runs."""
    sending = attributes.on("submit", actions.post(url, content_type="form")) if live else {}
    return form(".action", dict(sending), method="post", action=url)[
        hidden(fields),
        button(f".button{tone}", type="submit")[icon(drawing), label],
    ]


def pager(newer: str | None, older: str | None) -> Renderable | None:
    """Links to the pages beside this one."""
    if not newer and not older:
        return None
    return div(".pager", role="navigation", aria_label="Pages of the list")[
        a(".button", href=newer, rel="prev")[icon("older"), "Newer"] if newer else None,
        a(".button", href=older, rel="next")["Older", icon("newer")] if older else None,
    ]


def tag_list(tags: Iterable[str]) -> list[Element]:
    return [span(".tag")[tag] for tag in tags]
