"""The summary as a mail, and a folder that takes mails as a mail server would.

A mail is a file that ends in `.eml`: mail programs open it.
"""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from html import escape
from pathlib import Path
from uuid import uuid4

from .reading import Rejected
from .reports import Report
from .summary import Summary

ADDRESS = re.compile(r"[^@\s<>\",;:\\\[\]()]{1,64}@[A-Za-z0-9.-]{1,190}")


class MailRefused(OSError):
    """The folder did not take the mail this time."""


class MailFolder:
    """Takes mails as files. Folders on a network refuse at times: so does this one.

    `flaky` is how often, from 0 to 1.
    """

    def __init__(self, folder: Path, *, flaky: float = 0.0) -> None:
        self.folder, self._flaky = folder, flaky

    def deliver(self, name: str, mail: EmailMessage) -> Path:
        """Write a mail whole, under a name that is always the same: twice makes one."""
        if random.random() < self._flaky:
            raise MailRefused(f"{self.folder.name} did not answer")
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.eml"
        rough = path.with_name(f".{name}.{uuid4().hex}.tmp")
        rough.write_bytes(mail.as_bytes(policy=SMTP))
        rough.replace(path)
        return path


def money(cents: int, currency: str = "") -> str:
    """`1,234.50 EUR`, with a true minus."""
    text = f"{abs(cents) / 100:,.2f}" + (f" {currency}" if currency else "")
    return f"−{text}" if cents < 0 else text


def write_mail(report: Report, summary: Summary, rejected: list[Rejected], sender: str) -> EmailMessage:  # fmt: skip
    """The summary for people who read mails as text, and for those who read HTML."""
    mail = EmailMessage()
    mail["From"], mail["To"] = sender, report.mail_to
    mail["Subject"] = f"Ledger report: {report.name}"
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = f"<{report.id}@ledger.example>"
    mail.set_content(_text(report, summary, rejected))
    mail.add_alternative(_html(report, summary, rejected), subtype="html")
    return mail


def _facts(summary: Summary) -> list[tuple[str, str]]:
    span = f"{summary.first} to {summary.last}" if summary.first else "no lines"
    return [
        ("Period", span),
        ("Lines", f"{summary.lines:,}, and {summary.rejected:,} that could not be read"),
        ("Came in", money(summary.came, summary.currency)),
        ("Went out", money(summary.out, summary.currency)),
        ("Balance", money(summary.came - summary.out, summary.currency)),
    ]


def _text(report: Report, summary: Summary, rejected: list[Rejected]) -> str:
    lines = [report.name, ""]
    lines += [f"{name + ':':<10} {value}" for name, value in _facts(summary)]
    lines += ["", "By category", *(_row(c.name, c.cents) for c in summary.categories[:12])]
    lines += ["", "By month", *(_row(m.name, m.came - m.out) for m in summary.months)]
    if summary.outliers:
        lines += ["", "Lines that stand out"]
        lines += [
            f"  line {o.number}: {money(o.cents)}, where {money(o.usual)} is usual in {o.category}"
            for o in summary.outliers
        ]
    if rejected:
        lines += ["", "Lines that could not be read"]
        lines += [f"  line {each.number}: {each.why}" for each in rejected[:20]]
    return "\n".join(lines) + "\n"


def _row(name: str, cents: int) -> str:
    return f"  {name[:32]:<32} {money(cents):>16}"


def _html(report: Report, summary: Summary, rejected: list[Rejected]) -> str:
    facts = "".join(f"<tr><th align=left>{n}<td>{escape(v)}" for n, v in _facts(summary))
    groups = "".join(
        f"<tr><td>{escape(c.name)}<td align=right>{money(c.cents)}" for c in summary.categories[:12]
    )
    odd = "".join(
        f"<li>Line {o.number}: {money(o.cents)}, where {money(o.usual)} is usual in "
        f"{escape(o.category)}"
        for o in summary.outliers
    )
    bad = "".join(f"<li>Line {each.number}: {escape(each.why)}" for each in rejected[:20])
    return (
        f"<h1>{escape(report.name)}</h1><table>{facts}</table>"
        f"<h2>By category</h2><table>{groups}</table>"
        + (f"<h2>Lines that stand out</h2><ul>{odd}</ul>" if odd else "")
        + (f"<h2>Lines that could not be read</h2><ul>{bad}</ul>" if bad else "")
    )
