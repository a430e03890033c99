"""From the lines of a file to lines of a ledger; what cannot be read says why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

from .dialect import DATE, SIGNS, Dialect, NotALedger, Order, Role, records

CHUNK = 500
MAX_LINES = 500_000
BLANKS = re.compile(r"[\s\u00a0\u202f']")
AMOUNT = re.compile(r"([-+−(]?)([€$£]|[A-Z]{3})?([-+−]?)(\d[\d.,]*)([€$£]|[A-Z]{3})?([-−)]?)")


class BadLine(Exception):
    """One line cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line that counts. `cents` is negative for money that went out."""

    number: int
    day: str
    cents: int
    category: str
    label: str
    place: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """One line that does not count, and why."""

    number: int
    why: str
    text: str


@dataclass(slots=True)
class Chunk:
    """Some lines in a row. `upto` counts the records of the file read so far."""

    upto: int
    lines: list[Line] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


def chunks(content: bytes, dialect: Dialect, *, after: int = 0) -> Iterator[Chunk]:
    """Read a file from record `after` on, some lines at a time."""
    chunk = Chunk(upto=after)
    for place, (number, row) in enumerate(records(content, dialect.encoding, dialect.separator)):
        if place < max(after, dialect.head):
            chunk.upto = place + 1
            continue
        if place >= MAX_LINES:
            raise NotALedger(f"the desk takes {MAX_LINES:,} lines at most")
        chunk.upto = place + 1
        if any(cell.strip() for cell in row):
            try:
                chunk.lines.append(read_line(number, row, dialect))
            except BadLine as error:
                text = dialect.separator.join(row)[:300]
                chunk.rejected.append(Rejected(number, str(error), text))
        if chunk.upto % CHUNK == 0:
            yield chunk
            chunk = Chunk(upto=chunk.upto)
    yield chunk


def read_line(number: int, row: list[str], dialect: Dialect) -> Line:
    """One line, or BadLine with the first thing that is wrong with it."""
    columns = dialect.columns
    if any("\ufffd" in cell for cell in row):
        if len(row) == 1 and row[0].startswith("\ufffd"):
            raise BadLine(f"this line cannot be taken apart ({row[0][1:]})")
        raise BadLine("it holds bytes that are no text in the file's encoding")
    if len(row) <= max(columns.values()):
        raise BadLine(f"{len(row)} columns, {max(columns.values()) + 1} are needed")

    cell: dict[Role, str] = {role: row[at].strip() for role, at in columns.items()}
    day = read_date(cell["date"], dialect.order)
    cents, currency = _money(cell, dialect.decimal)
    currency = cell.get("currency", "").upper() or currency
    if currency and dialect.currency and currency != dialect.currency:
        raise BadLine(f"it is in {currency[:8]}, the file in {dialect.currency}")
    category = cell.get("category", "") or "Without category"
    label, place = cell.get("label", ""), cell.get("place", "")
    return Line(number, day.isoformat(), cents, category[:60], label[:120], place[:60])


def _money(cell: dict[Role, str], decimal: str) -> tuple[int, str]:
    if given := cell.get("amount"):
        return read_amount(given, decimal)
    out, came = cell.get("debit"), cell.get("credit")
    if out and came:
        raise BadLine("money both in and out in one line")
    if came:
        return read_amount(came, decimal)
    if out:
        cents, currency = read_amount(out, decimal)
        return -abs(cents), currency
    raise BadLine("no amount")


def read_amount(text: str, decimal: str) -> tuple[int, str]:
    """Cents, and the currency if the amount names one.

    Takes `1.234,56`, `-12,00 €`, `1'234.56 CHF`, `(12.00)` and `12.00-`.
    """
    found = AMOUNT.fullmatch(BLANKS.sub("", text))
    if found is None:
        raise BadLine(f"“{text[:40]}” is no amount")
    lead, before, second, digits, after, trail = found.groups()
    if (lead == "(") != (trail == ")"):
        raise BadLine(f"“{text[:40]}” has one bracket")
    whole, _, part = digits.replace("." if decimal == "," else ",", "").partition(decimal)
    if decimal in part or len(part) > 2:
        raise BadLine(f"“{text[:40]}” is no amount with {decimal!r} before the cents")
    if len(whole) > 12:
        raise BadLine(f"“{text[:40]}” is more money than there is")
    cents = int(whole or "0") * 100 + int(part.ljust(2, "0") or "0")
    negative = lead in ("-", "−", "(") or second in ("-", "−") or trail in ("-", "−")
    currency = before or after or ""
    return (-cents if negative else cents), SIGNS.get(currency, currency)


def read_date(text: str, order: Order) -> date:
    """A day; a time behind it is left out, two digits are a year from 1970 to 2069."""
    found = DATE.match(text)
    if found is None:
        raise BadLine(f"“{text[:40]}” is no date" if text else "no date")
    first, second, third = map(int, found.groups())
    year, month, day = {
        "ymd": (first, second, third),
        "dmy": (third, second, first),
        "mdy": (third, first, second),
    }["ymd" if len(found[1]) == 4 else order]
    if year < 100:
        year += 2000 if year < 70 else 1900
    if not 1970 <= year < 2100:
        raise BadLine(f"the year {year} is outside of this desk’s times")
    try:
        return date(year, month, day)
    except ValueError:
        raise BadLine(f"“{text[:40]}” is no day of the calendar") from None
