"""Charts as inline SVG: the drawing stretches, its labels are text beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, floor, log10

from htpy import (
    Element,
    Node,
    div,
    figcaption,
    figure,
    g,
    line,
    path,
    rect,
    span,
    svg,
    table,
    tbody,
    td,
    th,
    thead,
)
from htpy import title as title_element
from htpy import tr
from msgspec import Struct

from omniq.dashboard.components.format import count, duration

HEIGHT = 100.0


class Series(Struct, frozen=True):
    """One row of values, oldest first; None where nothing was measured."""

    label: str
    look: str
    """Class of its marks: ok, bad, mid, high."""
    values: list[float | None]


def nice_top(value: float) -> int:
    """The next round number that four equal steps of whole numbers lead to."""
    if value <= 4:
        return 4
    unit = 10 ** floor(log10(value))
    for factor in (1, 1.2, 1.6, 2, 2.4, 2.8, 3.2, 4, 4.8, 6, 8, 10):
        top = int(factor * unit)
        if top >= value and top % 4 == 0:
            return top
    return int(ceil(value / 4) * 4)


def bars(id: str, heading: str, series: Sequence[Series], minutes: int, said: str) -> Element:
    """Stacked bars, one per minute, on a linear scale."""
    totals = [
        sum(v or 0 for v in column) for column in zip(*(s.values for s in series), strict=True)
    ]
    top = nice_top(max(totals, default=0))
    marks: list[Element] = []
    for place in range(minutes):
        base = HEIGHT
        parts: list[Node] = []
        told = []
        for one in series:
            value = one.values[place] or 0
            told.append(f"{count(int(value))} {one.label.lower()}")
            if value:
                tall = max(1.2, HEIGHT * value / top)
                base -= tall
                parts.append(
                    rect(
                        f".{one.look}",
                        x=f"{place + 0.14:.2f}",
                        y=f"{base:.2f}",
                        width="0.72",
                        height=f"{tall:.2f}",
                    )
                )
        parts.append(_hover(place, f"{_minute(place, minutes)}: {', '.join(told)}"))
        marks.append(g(".column")[parts])
    ticks = [count(top * step // 4) for step in (4, 3, 2, 1, 0)]
    return _frame(id, heading, series, marks, ticks, minutes, said)


def curves(id: str, heading: str, series: Sequence[Series], minutes: int, said: str) -> Element:
    """Lines over minutes on a logarithmic scale of milliseconds."""
    known = [v for s in series for v in s.values if v is not None]
    low = floor(log10(max(min(known, default=1), 1)))
    high = max(low + 2, ceil(log10(max(max(known, default=100), 1))))

    def y(value: float) -> float:
        return HEIGHT * (1 - (log10(max(value, 10**low)) - low) / (high - low))

    marks: list[Element] = [
        path(f".curve.{one.look}", d=_trace(one.values, y)) for one in series if any(one.values)
    ]
    for place in range(minutes):
        told = [
            f"{one.label} {duration(value)}"
            for one in series
            if (value := one.values[place]) is not None
        ]
        if told:
            marks.append(_hover(place, f"{_minute(place, minutes)}: {', '.join(told)}"))
    ticks = [_round(10**power) for power in range(high, low - 1, -1)]
    return _frame(id, heading, series, marks, ticks, minutes, said)


def _trace(values: Sequence[float | None], y: object) -> str:
    """A path through the known values; one without neighbours becomes a short stroke."""
    assert callable(y)
    steps: list[str] = []
    before = False
    for place, value in enumerate(values):
        if value is None:
            before = False
            continue
        at = f"{place + 0.5:.2f} {y(value):.2f}"
        after = place + 1 < len(values) and values[place + 1] is not None
        if before:
            steps.append(f"L{at}")
        elif after:
            steps.append(f"M{at}")
        else:
            steps.append(f"M{place + 0.2:.2f} {y(value):.2f}h0.6")
        before = True
    return "".join(steps)


def _hover(place: int, text: str) -> Element:
    return rect(".hover", x=str(place), y="0", width="1", height=f"{HEIGHT:g}")[title_element[text]]


def _minute(place: int, minutes: int) -> str:
    back = minutes - 1 - place
    return "this minute" if back == 0 else f"{back} min ago"


def _round(ms: float) -> str:
    if ms < 1000:
        return f"{ms:g} ms"
    return f"{ms / 1000:g} s" if ms < 1e5 else f"{ms / 1000:,.0f} s".replace(",", "\u202f")


def _frame(
    id: str,
    heading: str,
    series: Sequence[Series],
    marks: Sequence[Element],
    ticks: Sequence[str],
    minutes: int,
    said: str,
) -> Element:
    grid = [
        line(".grid", x1="0", x2=str(minutes), y1=f"{at:.2f}", y2=f"{at:.2f}")
        for at in (HEIGHT * step / (len(ticks) - 1) for step in range(len(ticks)))
    ]
    return figure(".chart")[
        figcaption[
            span(".chart-title")[heading],
            span(".legend")[(span(f".key.{one.look}")[one.label] for one in series)],
        ],
        div(".plot")[
            div(".ticks-y.num", aria_hidden="true")[(span[tick] for tick in ticks)],
            svg(
                viewBox=f"0 0 {minutes} {HEIGHT:g}",
                preserveAspectRatio="none",
                role="img",
                aria_labelledby=f"{id}-t",
            )[title_element(f"#{id}-t")[f"{heading}: {said}"], grid, marks],
            div(".ticks-x", aria_hidden="true")[
                span[f"{minutes} min ago"],
                span(".mid")[f"{minutes // 2} min ago"],
                span["now"],
            ],
        ],
    ]


def numbers(columns: Sequence[tuple[str, Series, Callable[[float], str]]], minutes: int) -> Element:
    """What the charts draw, as a table: the newest minute first, empty ones left out."""
    rows = [
        tr[
            th(scope="row")[_minute(place, minutes)],
            [  # a list: a generator would be drawn once `place` has gone on
                td(".num")["–" if (value := one.values[place]) is None else text(value)]
                for _, one, text in columns
            ],
        ]
        for place in reversed(range(minutes))
        if any(one.values[place] for _, one, _ in columns)
    ]
    return table(".list.numbers")[
        thead[tr[th["Minute"], (th(".num")[label] for label, _, _ in columns)]], tbody[rows]
    ]
