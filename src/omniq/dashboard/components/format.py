"""Numbers, times and lengths of time as people read them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from htpy import Element, span
from htpy import time as time_element

from omniq.models.row import Ms


def now_ms() -> Ms:
    return time.time_ns() // 1_000_000


def count(number: int) -> str:
    """12 345 with thin spaces, so that digits stay in their columns."""
    return f"{number:,}".replace(",", "\u202f")


def duration(ms: float | None) -> str:
    """A length of time in its two largest units at most."""
    if ms is None:
        return "–"
    if ms < 1:
        return "0 ms" if ms <= 0 else "<1 ms"
    if ms < 1000:
        return f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for size, name, next_size, next_name in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            big, rest = divmod(whole, size)
            small = rest // next_size
            return f"{big} {name} {small} {next_name}" if small else f"{big} {name}"
    return f"{whole} s"


def size(number: int) -> str:
    """Bytes in units of 1024."""
    if number < 1024:
        return f"{number} B"
    value = float(number)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value:.0f} GiB"


def ago(ms: Ms, *, now: Ms | None = None) -> str:
    """How long ago, or how long until."""
    away = (now_ms() if now is None else now) - ms
    if abs(away) < 1500:
        return "now"
    text = _coarse(abs(away) // 1000)
    return f"{text} ago" if away > 0 else f"in {text}"


def _coarse(seconds: int) -> str:
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def iso(ms: Ms) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def clock(ms: Ms) -> str:
    """The moment in UTC, to the second."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def when(ms: Ms | None) -> Element:
    """A moment as its distance from now; the exact one on hover and for programs."""
    if not ms:
        return span(".quiet")["–"]
    return time_element(datetime=iso(ms), title=f"{clock(ms)} UTC", data_ago=True)[ago(ms)]


def moment(ms: Ms | None) -> Element:
    """A moment with its distance behind it."""
    if not ms:
        return span(".quiet")["–"]
    return span(".moment")[
        time_element(datetime=iso(ms), data_clock=True)[f"{clock(ms)} UTC"],
        " ",
        span(".quiet")[when(ms)],
    ]
