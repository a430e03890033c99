"""What a ledger comes to: months, categories, and lines that stand out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from statistics import median

from pydantic import BaseModel, ConfigDict

from .reading import Line

STANDS_OUT = 4.5
"""How far from its category's middle an amount is unusual, in deviations."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Month(_Frozen):
    """Money of one month, in cents; `out` is not negative."""

    name: str
    came: int = 0
    out: int = 0
    lines: int = 0


class Category(_Frozen):
    name: str
    cents: int
    lines: int


class Outlier(_Frozen):
    """A line far from what is usual in its category; `usual` is the category's middle."""

    number: int
    day: str
    label: str
    category: str
    cents: int
    usual: int


class Summary(_Frozen):
    """Everything the report says, in cents."""

    lines: int
    rejected: int
    currency: str
    came: int
    out: int
    first: str
    last: str
    months: list[Month]
    categories: list[Category]
    outliers: list[Outlier]


def summarise(lines: Iterable[Line], *, rejected: int, currency: str) -> Summary:
    """One pass over all lines, and one over the amounts of each category."""
    months: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    groups: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        month = months[line.day[:7]]
        month[0 if line.cents >= 0 else 1] += abs(line.cents)
        month[2] += 1
        groups[line.category].append(line)
    days = [line.day for group in groups.values() for line in group]
    filled = _without_gaps(months)
    return Summary(
        lines=len(days),
        rejected=rejected,
        currency=currency,
        came=sum(month.came for month in filled),
        out=sum(month.out for month in filled),
        first=min(days, default=""),
        last=max(days, default=""),
        months=filled,
        categories=sorted(
            (
                Category(name=name, cents=sum(line.cents for line in group), lines=len(group))
                for name, group in groups.items()
            ),
            key=lambda each: -abs(each.cents),
        ),
        outliers=outliers(groups.values()),
    )


def _without_gaps(months: dict[str, list[int]]) -> list[Month]:
    """Months in order, those without a line included (two centuries would be no chart)."""
    if not months:
        return []
    names, last = [min(months)], max(months)
    while names[-1] < last and len(names) < 60:
        year, month = divmod(int(names[-1][:4]) * 12 + int(names[-1][5:]), 12)
        names.append(f"{year}-{month + 1:02}")
    if names[-1] != last:
        names = sorted(months)
    empty = [0, 0, 0]
    made = ((name, months.get(name, empty)) for name in names)
    return [Month(name=name, came=c, out=o, lines=n) for name, (c, o, n) in made]


def outliers(groups: Iterable[list[Line]], limit: int = 12) -> list[Outlier]:
    """The lines that stand out most.

    The modified z-score of Iglewicz and Hoaglin (1993), taken on logarithms: amounts differ by
    factors, so ten times the usual is as odd in a category of cents as in one of thousands.
    """
    found: list[tuple[float, Outlier]] = []
    for group in groups:
        sized = [(math.log(abs(line.cents)), line) for line in group if line.cents]
        if len(sized) < 8:
            continue
        middle = median(size for size, _ in sized)
        spread = median(abs(size - middle) for size, _ in sized)
        usual = round(math.exp(middle))
        for size, line in sized:
            # Where half of all lines are the same, a tenth of a factor still is a spread.
            score = 0.6745 * abs(size - middle) / max(spread, 0.1)
            if score > STANDS_OUT:
                about = Outlier(
                    number=line.number,
                    day=line.day,
                    label=line.label or line.place,
                    category=line.category,
                    cents=line.cents,
                    usual=-usual if line.cents < 0 else usual,
                )
                found.append((score, about))
    found.sort(key=lambda each: -each[0])
    return [about for _, about in found[:limit]]
