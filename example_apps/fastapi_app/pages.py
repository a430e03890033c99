"""The pages, as htpy elements. They work without JavaScript; `live.js` keeps them up to date."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from htpy import (
    Element,
    Node,
    Renderable,
    a,
    body,
    button,
    div,
    footer,
    form,
    h1,
    h2,
)
from htpy import head as head_
from htpy import header, html
from htpy import input as field
from htpy import (
    label,
    li,
    link,
    main,
    meta,
    nav,
    noscript,
    p,
    progress,
    script,
    section,
    small,
    span,
    strong,
    table,
    tbody,
    td,
    th,
    thead,
    time,
    title,
    tr,
    ul,
)

from .mailing import money
from .progress import Standing
from .reading import Rejected
from .report_page import report_body
from .reports import Report
from .samples import SAMPLES

MAX_BYTES = 24 * 1024 * 1024


def index_page(
    found: Sequence[tuple[Report, Standing]], *, refused: str = "", mail_to: str = ""
) -> Renderable:
    """The upload form and everything that was uploaded."""
    busy = any(each.busy for _, each in found)
    return _page(
        "Ledger desk",
        busy,
        "/",
        "/live",
        _upload_form(refused, mail_to),
        _samples(),
        section("#reports", aria_labelledby="past", data_redraw=True)[
            h2("#past")["Reports"], _list(found)
        ],
    )


def report_page(report: Report, standing: Standing, rejected: Sequence[Rejected]) -> Renderable:
    """One report: how far it is, and then what it says."""
    here = f"/reports/{report.id}"
    return _page(
        report.name,
        standing.busy,
        here,
        f"/live?report={report.id}",
        div("#report", data_redraw=True)[
            header(".about")[
                h1[report.name],
                p[
                    _when(report.at),
                    f" · {report.size / 1024:,.0f} KiB · read as {report.dialect.words}",
                ],
            ],
            _progress_card(report, standing),
            report.summary and report_body(report.summary, rejected),
        ],
        home=False,
    )


def problem_page(said: str) -> Renderable:
    """A page for what went wrong."""
    return _page("Not here", False, "/", "", h1["Not here"], p[said], home=False)


def _page(
    name: str, busy: bool, here: str, live: str, *content: Node, home: bool = True
) -> Renderable:
    return html(lang="en")[
        head_[
            meta(charset="utf-8"),
            meta(name="viewport", content="width=device-width, initial-scale=1"),
            title[name if home else f"{name} · Ledger desk"],
            link(rel="icon", href="data:,"),
            link(rel="stylesheet", href="/static/style.css"),
            script(src="/static/live.js", type="module"),
            # With a fragment in its address the page would not be loaded again: name it.
            busy and noscript[meta(http_equiv="refresh", content=f"2; url={here}")],
        ],
        body[
            a(".skip", href="#content")["Skip to the content"],
            header(".top")[
                (h1 if home else p)(".brand")[a(href="/")["Ledger desk"]],
                home and p["Reads ledgers in the background, and mails what they come to."],
                nav(aria_label="More")[a(href="/omniq/")["Dashboard"]],
            ],
            main("#content", data_busy="yes" if busy else "no", data_live=live)[content],
            p("#said.aside", role="status"),
            footer[p["Queue, worker and dashboard run inside this web app’s process."]],
        ],
    ]


def _upload_form(refused: str, mail_to: str) -> Element:
    return form("#upload.card", method="post", action="/reports", enctype="multipart/form-data")[
        refused and p(".refused", role="alert")[strong["Not taken: "], refused],
        label(for_="file")[
            strong["A ledger as CSV"],
            small[
                "Bank or sales lines with a date and an amount, up to "
                f"{MAX_BYTES // 1024**2} MiB. Separator, encoding, numbers and dates are found out."
            ],
        ],
        field(
            type="file",
            id="file",
            name="file",
            accept=".csv,.tsv,.txt,text/csv,text/tab-separated-values",
            required=True,
        ),
        label(for_="mail_to")[strong["Send the summary to"]],
        field(
            type="email",
            id="mail_to",
            name="mail_to",
            value=mail_to,
            autocomplete="email",
            required=True,
        ),
        button(".main", type="submit")["Read it"],
    ]


def _samples() -> Element:
    return section("#samples", aria_labelledby="try")[
        h2("#try")["None at hand?"],
        ul[
            [
                li[
                    form(method="post", action=f"/samples/{sample.name}")[
                        button(type="submit")[f"Read {sample.name}"]
                    ],
                    small[sample.about, " · ", a(href=f"/samples/{sample.name}")["download"]],
                ]
                for sample in SAMPLES.values()
            ]
        ],
    ]


def _list(found: Iterable[tuple[Report, Standing]]) -> Element:
    rows = [_row(report, standing) for report, standing in found]
    if not rows:
        return p(".empty")["Nothing yet. What you upload appears here."]
    return div(".scroll", tabindex="0", role="region", aria_label="Reports")[
        table[
            thead[
                tr[
                    th(scope="col")["Ledger"],
                    th(scope="col")["State"],
                    th(".number", scope="col")["Lines"],
                    th(".number", scope="col")["Balance"],
                    th(scope="col")["Uploaded"],
                ]
            ],
            tbody[rows],
        ]
    ]


def _row(report: Report, standing: Standing) -> Element:
    summary = report.summary
    return tr(data_report=report.id)[
        th(scope="row")[a(href=f"/reports/{report.id}")[report.name]],
        td[_state(standing)],
        td(".number")[f"{summary.lines:,}" if summary else "–"],
        td(".number")[money(summary.came - summary.out, summary.currency) if summary else "–"],
        td[_when(report.at)],
    ]


def _state(standing: Standing) -> Node:
    return [
        span(class_=f"word {standing.state}")[standing.word],
        standing.state == "reading" and _bar(standing),
        standing.detail and small(".detail")[standing.detail],
    ]


def _bar(standing: Standing) -> Element:
    return progress(
        max=str(standing.total), value=str(standing.done), aria_label="Lines that were read"
    )


def _progress_card(report: Report, standing: Standing) -> Element:
    """How far it is, and what can be done about it."""
    act = f"/reports/{report.id}"
    return section("#progress.card", data_report=report.id, aria_label="Progress")[
        p[
            span(class_=f"word {standing.state}")[standing.word],
            " ",
            span(".count")[_count(standing)],
            small(".detail")[standing.detail],
        ],
        standing.busy and report.summary is None and _bar(standing),
        div(".buttons")[
            standing.busy
            and form(method="post", action=f"{act}/cancel")[button(type="submit")["Cancel"]],
            standing.state in ("failed", "cancelled")
            and form(method="post", action=f"{act}/read")[
                button(".main", type="submit")["Go on with it"]
            ],
            report.mailed and a(".main", href=f"{act}/mail", download=True)["Open the mail"],
            report.mailed and small["sent to ", report.mail_to],
        ],
    ]


def _count(standing: Standing) -> str:
    if standing.state not in ("reading", "waiting", "cancelled", "failed"):
        return ""
    return f"{standing.done:,} of {standing.total:,} lines"


def _when(stamp: float) -> Element:
    when = datetime.fromtimestamp(stamp, UTC)
    return time(datetime=when.isoformat())[f"{when:%d %b %Y, %H:%M} UTC"]
