"""How a file writes things down: its encoding, separator, columns, numbers and dates.

Nobody is asked. A sample of the file's own lines decides, and the report says what was found.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal

from pydantic import BaseModel, ConfigDict

Order = Literal["ymd", "dmy", "mdy"]
Role = Literal["date", "amount", "debit", "credit", "category", "label", "place", "currency"]

SAMPLE = 400
SEPARATORS = {";": "semicolons", ",": "commas", "\t": "tabs", "|": "bars"}
BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
ENCODINGS = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8", "utf-16": "UTF-16", "cp1252": "Windows-1252"}
WORDS: dict[Role, frozenset[str]] = {
    "date": frozenset(
        {"date", "day", "datum", "buchungstag", "buchungsdatum", "booking date", "fecha", "data"}
    ),
    "amount": frozenset(
        {"amount", "total", "value", "betrag", "umsatz", "summe", "montant", "importe", "importo"}
    ),
    "debit": frozenset({"debit", "soll", "débit", "out", "paid out", "ausgabe"}),
    "credit": frozenset({"credit", "haben", "crédit", "in", "paid in", "einnahme"}),
    "category": frozenset({"category", "kategorie", "catégorie", "group", "warengruppe", "type"}),
    "label": frozenset(
        {"text", "description", "product", "item", "article", "produkt", "artikel", "libellé"}
        | {"buchungstext", "verwendungszweck", "purpose", "details"}
    ),
    "place": frozenset({"shop", "store", "branch", "city", "filiale", "ort", "stadt", "magasin"}),
    "currency": frozenset({"currency", "währung", "devise"}),
}
SIGNS = {"€": "EUR", "$": "USD", "£": "GBP"}
CURRENCY = re.compile(r"[€$£]|\b[A-Z]{3}\b")
MONEY: tuple[Role, ...] = ("amount", "debit", "credit")
DATE = re.compile(r"(\d{1,4})[-./ ](\d{1,2})[-./ ](\d{1,4})")


class NotALedger(Exception):
    """The file cannot be read at all; the message says why, for the person who sent it."""


class Dialect(BaseModel):
    """How one file is written. `columns` says in which column each thing is."""

    model_config = ConfigDict(frozen=True)

    encoding: str
    separator: str
    head: int
    """Records before the first line of data: what a bank writes on top, and the names."""
    columns: dict[Role, int]
    decimal: Literal[",", "."]
    order: Order
    currency: str = ""
    """What most of its first lines are in; empty if none says."""

    @property
    def words(self) -> str:
        """The dialect as a person would say it."""
        number = "1.234,56" if self.decimal == "," else "1,234.56"
        date = {"ymd": "year-month-day", "dmy": "day.month.year", "mdy": "month/day/year"}
        return (
            f"{ENCODINGS[self.encoding]}, {SEPARATORS[self.separator]}, "
            f"{number}, {date[self.order]}"
        )


def records(content: bytes, encoding: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Records with the number of their last line; one that is broken has a single odd field.

    What no encoding explains is replaced by U+FFFD, so that one bad byte costs one line.
    """
    text = io.TextIOWrapper(io.BytesIO(content), encoding, errors="replace", newline="")
    reader = csv.reader(text, delimiter=separator)
    while True:
        try:
            row = next(reader)
            yield reader.line_num, row
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num, [f"\ufffd{error}"]


def sniff(content: bytes) -> Dialect:
    """Find out how a file is written, or say why it is no ledger."""
    if not content.strip():
        raise NotALedger("the file is empty")
    encoding = _encoding(content)
    for separator in _by_use(content, encoding):
        rows = [row for _, row in islice(records(content, encoding, separator), SAMPLE)]
        head, columns = _header(rows)
        if columns:
            break
    else:
        raise NotALedger("no line names a column for the date and one for the amount")
    data = [row for row in rows[head:] if len(row) > max(columns.values())]
    if not data:
        raise NotALedger("there is a header, and no line below it")
    amounts = [row[i] for role, i in columns.items() if role in MONEY for row in data]
    decimal = _decimal(amounts)
    order = _order([row[columns["date"]] for row in data], decimal)
    named = [row[columns["currency"]] for row in data] if "currency" in columns else amounts
    return Dialect(
        encoding=encoding,
        separator=separator,
        head=head,
        columns=columns,
        decimal=decimal,
        order=order,
        currency=_currency(named),
    )


def _encoding(content: bytes) -> str:
    for bom, name in BOMS.items():
        if content.startswith(bom):
            return name
    if b"\0" in content[:4096]:
        raise NotALedger("this is no text file; save the sheet as CSV first")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _by_use(content: bytes, encoding: str) -> list[str]:
    """Separators that occur, the one most lines hold first."""
    lines = content[:65_536].decode(encoding, errors="replace").splitlines()[:SAMPLE]
    used = {each: sum(each in line for line in lines) for each in SEPARATORS}
    # A decimal comma stands in every line as well: of two that do, the other one separates.
    return sorted((each for each in used if used[each]), key=lambda e: (-used[e], e == ","))


def _header(rows: Sequence[Sequence[str]]) -> tuple[int, dict[Role, int]]:
    """How many records are not data, and which column is what; {} where no line is a header."""
    for number, row in enumerate(rows[:30]):
        found: dict[Role, int] = {}
        for column, cell in enumerate(row):
            word = cell.strip().casefold().removesuffix(" (eur)").removesuffix(" (usd)")
            for role, words in WORDS.items():
                if word in words:
                    found.setdefault(role, column)
        if "date" in found and any(role in found for role in MONEY):
            return number + 1, found
    return 0, {}


def _decimal(amounts: Sequence[str]) -> Literal[",", "."]:
    """The mark that stands last in an amount, before one or two digits, is the decimal one."""
    votes = {",": 0, ".": 0}
    for amount in amounts:
        found = re.search(r"([.,])\d{1,2}\D*$", amount)
        if found:
            votes[found[1]] += 1
    return "," if votes[","] > votes["."] else "."


def _currency(cells: Sequence[str]) -> str:
    """The currency most cells name, a column of its own or beside the amounts."""
    found = Counter(match[0] for match in map(CURRENCY.search, cells) if match)
    most = found.most_common(1)
    return SIGNS.get(most[0][0], most[0][0]) if most else ""


def _order(dates: Sequence[str], decimal: str) -> Order:
    """Which part of a date is the day: the one that goes beyond twelve."""
    parts = [found.groups() for found in map(DATE.search, dates) if found]
    if sum(len(first) == 4 for first, _, _ in parts) * 2 > len(parts):
        return "ymd"
    first = sum(int(a) > 12 for a, _, _ in parts)
    second = sum(int(b) > 12 for _, b, _ in parts)
    if first == second:  # nothing decides: who writes a decimal comma writes the day first
        return "dmy" if decimal == "," or any("." in date for date in dates) else "mdy"
    return "dmy" if first > second else "mdy"
