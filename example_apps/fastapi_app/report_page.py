"""What a report says once its ledger was read: figures, charts, and lines to look at."""

from __future__ import annotations

from collections.abc import Sequence

from htpy import Element, Node, Renderable, dd, details, div, dl, dt, fragment, h2, p, section
from htpy import summary as summary_
from htpy import table, tbody, td, th, thead, tr
from markupsafe import Markup

from .charts import category_chart, month_chart, month_name
from .mailing import money
from .reading import Rejected
from .summary import Summary


def report_body(summary: Summary, rejected: Sequence[Rejected]) -> Node:
    """Everything below the progress card."""
    return fragment[
        _figures(summary),
        summary.months and _months(summary),
        summary.categories and _categories(summary),
        _outliers(summary),
        _rejected(summary, rejected),
    ]


def _figures(summary: Summary) -> Element:
    facts = [
        ("Balance", money(summary.came - summary.out, summary.currency)),
        ("Came in", money(summary.came, summary.currency)),
        ("Went out", money(summary.out, summary.currency)),
        ("Lines", f"{summary.lines:,}"),
        ("Period", f"{summary.first} – {summary.last}" if summary.first else "–"),
    ]
    return dl(".figures")[[div[dt[name], dd[value]] for name, value in facts]]


def _months(summary: Summary) -> Element:
    rows = [
        (month_name(m.name), f"{m.lines:,}", money(m.came), money(m.out), money(m.came - m.out))
        for m in summary.months
    ]
    return section(".card", aria_labelledby="months")[
        h2("#months")["Month by month"],
        _scrolling("Chart of the months", month_chart(summary.months, summary.currency)),
        details[summary_["As a table"], _table(["Month", "Lines", "In", "Out", "Balance"], rows)],
    ]


def _categories(summary: Summary) -> Element:
    rows = [(c.name, f"{c.lines:,}", money(c.cents, summary.currency)) for c in summary.categories]
    return section(".card", aria_labelledby="categories")[
        h2("#categories")["By category"],
        _scrolling("Chart of the categories", category_chart(summary.categories, summary.currency)),
        details[summary_["As a table"], _table(["Category", "Lines", "Sum"], rows)],
    ]


def _outliers(summary: Summary) -> Element:
    rows = [
        (o.label or "–", o.category, o.day, f"{o.number:,}", money(o.cents), money(o.usual))
        for o in summary.outliers
    ]
    names = ["Line says", "Category", "Day", "Line", "Amount", "Usual"]
    return section(".card", aria_labelledby="outliers")[
        h2("#outliers")["Lines that stand out"],
        (
            _table(names, rows, numbers=3)
            if rows
            else p(".empty")["None: every amount is near what is usual in its category."]
        ),
    ]


def _rejected(summary: Summary, rejected: Sequence[Rejected]) -> Element:
    rows = [(f"{each.number:,}", each.why, each.text) for each in rejected]
    more = summary.rejected - len(rows)
    return section(".card.lines", aria_labelledby="rejected")[
        h2("#rejected")[f"Lines that could not be read: {summary.rejected:,}"],
        (
            _table(["Line", "Why", "It says"], rows, numbers=9)
            if rows
            else p(".empty")["None: every line of the file counts."]
        ),
        more > 0 and p[f"And {more:,} more."],
    ]


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int = 1) -> Element:
    """A table whose columns from `numbers` on hold numbers; it scrolls on a narrow screen."""

    def kind(column: int) -> str | None:
        return "number" if column >= numbers else None

    return _scrolling(
        " and ".join(names[:2]),
        table[
            thead[tr[[th(scope="col", class_=kind(i))[name] for i, name in enumerate(names)]]],
            tbody[
                [
                    tr[
                        [
                            th(scope="row")[cell] if i == 0 else td(class_=kind(i))[cell]
                            for i, cell in enumerate(row)
                        ]
                    ]
                    for row in rows
                ]
            ],
        ],
    )


def _scrolling(name: str, wide: Renderable | Markup) -> Element:
    """What is too wide for a narrow screen scrolls by itself, with the keyboard as well."""
    return div(".scroll", tabindex="0", role="region", aria_label=name)[wide]
