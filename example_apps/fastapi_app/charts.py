"""Charts as inline SVG: no script, no picture files, colours from the page's own styles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from markupsafe import Markup

from .mailing import money
from .summary import Category, Month

WIDTH = 760
NAMES = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def month_chart(months: Sequence[Month], currency: str) -> Markup:
    """Money in above the line, money out below it, a pair of bars per month."""
    left, right, top, height, foot = 74, 8, 12, 220, 26
    above = _nice(max((month.came for month in months), default=0))
    below = _nice(max((month.out for month in months), default=0))
    scale = height / ((above + below) or 1)
    zero = top + above * scale
    step = (WIDTH - left - right) / max(len(months), 1)
    wide = min(step * 0.64, 46)
    parts = []
    for value in _ticks(above, below):
        y = zero - value * scale
        kind = "axis" if value == 0 else "grid"
        parts.append(
            f'<line class="{kind}" x1="{left}" x2="{WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{left - 8}" y="{y + 4:.1f}">{_short(value)}</text>'
        )
    for place, month in enumerate(months):
        middle = left + step * (place + 0.5)
        for kind, cents in (("in", month.came), ("out", month.out)):
            tall = cents * scale
            y = zero - tall if kind == "in" else zero
            signed = cents if kind == "in" else -cents
            told = f"{month_name(month.name)}: {money(signed, currency)}"
            if cents:
                parts.append(
                    f'<rect class="{kind}" x="{middle - wide / 2:.1f}" y="{y:.1f}" '
                    f'width="{wide:.1f}" height="{max(tall, 1):.1f}" rx="2">'
                    f"<title>{escape(told)}</title></rect>"
                )
        if _labelled(place, len(months)):
            word = month_name(month.name, short=True)
            parts.append(
                f'<text class="name" x="{middle:.1f}" y="{top + height + 19}">{word}</text>'
            )
    return _svg("Money in and out by month", top + height + foot, parts)


def category_chart(categories: Sequence[Category], currency: str, *, most: int = 9) -> Markup:
    """One bar per category, the largest first; what is left over is one bar more."""
    shown, rest = list(categories[:most]), categories[most:]
    if rest:
        cents, lines = sum(c.cents for c in rest), sum(c.lines for c in rest)
        shown.append(Category(name=f"{len(rest)} others", cents=cents, lines=lines))
    row, left, right = 34, 150, 130
    longest = max((abs(each.cents) for each in shown), default=0) or 1
    parts = []
    for place, each in enumerate(shown):
        y, wide = place * row + 6, (WIDTH - left - right) * abs(each.cents) / longest
        kind = "in" if each.cents >= 0 else "out"
        name = each.name if len(each.name) <= 20 else each.name[:19] + "…"
        parts.append(
            f'<text class="label" x="{left - 10}" y="{y + 16}">{escape(name)}'
            f"<title>{escape(each.name)}</title></text>"
            f'<rect class="{kind}" x="{left}" y="{y}" width="{max(wide, 1):.1f}" height="22" rx="3">'
            f"<title>{escape(each.name)}: {each.lines:,} lines</title></rect>"
            f'<text class="sum" x="{left + wide + 10:.1f}" y="{y + 16}">'
            f"{escape(money(each.cents, currency))}</text>"
        )
    return _svg("Sum of each category", len(shown) * row + 6, parts)


def month_name(name: str, *, short: bool = False) -> str:
    """`2026-03` as `Mar 2026`; short: `Mar`, and the year in January."""
    year, month = name.split("-")
    word = NAMES[int(month) - 1]
    return word if short and month != "01" else f"{word} {year}"


def _svg(title: str, height: float, parts: Sequence[str]) -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _nice(cents: int) -> int:
    """The next round number: what an axis ends at."""
    if cents <= 0:
        return 0
    size: float = 10.0 ** math.floor(math.log10(cents))
    return round(
        next(size * part for part in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if size * part >= cents)
    )


def _ticks(above: int, below: int) -> list[int]:
    step = _nice((above + below) // 6) or 1
    return list(range(-(below // step) * step, above + 1, step))


def _labelled(place: int, count: int) -> bool:
    """Names of months need room: where there are many, only some are written."""
    return place % max(1, math.ceil(count / 12)) == 0


def _short(cents: int) -> str:
    """An amount of an axis: `12k`, `1.5M`."""
    value, sign = abs(cents) / 100, "−" if cents < 0 else ""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{sign}{value / size:g}{unit}"
    return f"{sign}{value:g}"
