"""Ledgers out of nothing, each written in another way, for whoever has none at hand."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

CITIES = ["Northgate", "Eastbridge", "Lakeside", "Old Harbour", "Westfield", "Millbrook"]
PRODUCTS = {
    "Bread": (["Rye loaf", "Baguette, long", "Seeded roll", "Flatbread"], 340),
    "Coffee": (["Espresso", "Filter, large", "Beans 250 g", "Cold brew"], 520),
    "Stationery": (["Notebook A5", "Pencils, dozen", "Envelopes", "Ink, blue"], 790),
    "Garden": (["Seeds, mixed", "Clay pot", "Watering can", "Soil 20 l"], 1450),
    "Repairs": (["Key copy", "Sole, pair", "Bicycle tube", "Lamp rewired"], 2600),
}
BOOKINGS = {
    "Miete": (["Ladenmiete", "Lagermiete"], -128_000, 0.02),
    "Waren": (["Großhandel", "Bäckerei-Lieferung", "Kaffeerösterei"], -21_500, 0.35),
    "Gebühren": (["Kontoführung", "Kartenzahlung Gebühr"], -890, 0.35),
    "Umsätze": (["Tageseinnahme", "Kartenumsätze", "Rückgabe Pfand"], 34_000, 0.35),
}


@dataclass(frozen=True)
class Sample:
    """One ledger to try; `make` writes it."""

    name: str
    about: str
    make: Callable[[], bytes]


def _days(chance: random.Random, count: int, *, start: date = date(2026, 1, 1)) -> Iterator[date]:
    yield from sorted(start + timedelta(days=chance.randrange(300)) for _ in range(count))


def _amount(chance: random.Random, middle: int, *, odd: float = 0.0012) -> int:
    """Cents around a middle; now and then one that is far from it."""
    cents = round(middle * chance.lognormvariate(0, 0.4))
    return cents * chance.choice((18, 25, 40)) if chance.random() < odd else cents


def _comma(cents: int) -> str:
    text = f"{abs(cents) / 100:,.2f}".translate(str.maketrans(",.", ".,"))
    return f"-{text}" if cents < 0 else text


def _write(separator: str, rows: Iterator[list[str]] | list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\r\n").writerows(rows)
    return text.getvalue()


def bank_statement() -> bytes:
    """Windows-1252, semicolons, decimal commas, and lines above the header."""
    chance = random.Random(11)
    rows = [["Kontoauszug"], ["Zeitraum", "01.01.2026 - 28.10.2026"], []]
    rows.append(["Buchungstag", "Buchungstext", "Kategorie", "Betrag", "Währung"])
    kinds = list(BOOKINGS)
    weights = [BOOKINGS[kind][2] for kind in kinds]
    for number, day in enumerate(_days(chance, 900)):
        (kind,) = chance.choices(kinds, weights)
        texts, middle, _ = BOOKINGS[kind]
        amount = _comma(_amount(chance, middle, odd=0.004))
        currency = "CHF" if number == 410 else "EUR"
        when = "31.02.2026" if number == 77 else f"{day:%d.%m.%Y}"
        given = {130: "", 505: "siehe Anlage"}.get(number, amount)
        rows.append([when, chance.choice(texts), kind, given, currency])
    return _write(";", rows).encode("cp1252")


def shop_sales() -> bytes:
    """UTF-8 with its mark, commas inside of quotes, and a few lines nobody can read."""
    chance = random.Random(23)
    lines = _write(",", _sales(chance, 6000)).splitlines(keepends=True)
    lines[301] = "2026-01-19,Lakeside\r\n"
    lines[2207] = lines[2207].replace("2026-", "20x6-", 1)
    lines[4100] = "\r\n"
    lines[5003] = lines[5003].rsplit(",", 1)[0] + ",1.2.3\r\n"
    return "".join(lines).encode("utf-8-sig")


def market_stalls() -> bytes:
    """UTF-16, tabs, the month first, money in and money out in columns of their own."""
    chance = random.Random(37)
    rows = [["Date", "Branch", "Details", "Type", "Paid in", "Paid out"]]
    for day in _days(chance, 1500):
        when = f"{day.month}/{day.day}/{day.year}"
        kind = chance.choice(list(PRODUCTS))
        texts, middle = PRODUCTS[kind]
        if chance.random() < 0.12:
            cost = f"{_amount(chance, middle * 6) / 100:,.2f}"
            rows.append([when, chance.choice(CITIES), f"Stock: {kind}", "Stock", "", cost])
        else:
            text, taken = chance.choice(texts), f"${_amount(chance, middle) / 100:,.2f}"
            rows.append([when, chance.choice(CITIES), text, kind, taken, ""])
    rows[640][4:] = ["$4.00", "4.00"]
    return _write("\t", rows).encode("utf-16")


def busy_year() -> bytes:
    """Long enough to be watched, and to be cancelled."""
    return _write("|", _sales(random.Random(41), 120_000)).encode()


def _sales(chance: random.Random, count: int) -> Iterator[list[str]]:
    yield ["date", "city", "category", "product", "amount"]
    kinds = list(PRODUCTS)
    for day in _days(chance, count):
        kind = chance.choice(kinds)
        texts, middle = PRODUCTS[kind]
        amount = _amount(chance, middle)
        if chance.random() < 0.015:
            amount = -amount  # brought back
        text = f"{amount / 100:,.2f}"
        yield [day.isoformat(), chance.choice(CITIES), kind, chance.choice(texts), text]


SAMPLES = {
    sample.name: sample
    for sample in (
        Sample("bank-statement.csv", "900 bookings, decimal commas, Windows-1252", bank_statement),
        Sample("shop-sales.csv", "6,000 sales, commas in quotes, UTF-8", shop_sales),
        Sample("market-stalls.tsv", "1,500 lines, month first, tabs, UTF-16", market_stalls),
        Sample("busy-year.csv", "120,000 sales: long enough to be watched", busy_year),
    )
}
