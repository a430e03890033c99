"""What a worker says of itself, kept as docs of kind "worker" and "metric"."""

from __future__ import annotations

from math import log2

from msgspec import Struct

from omniq.models.row import Ms


class WorkerCard(Struct, frozen=True, kw_only=True):
    """One worker process: rewritten at every heartbeat, gone soon after it died."""

    id: str
    host: str
    pid: int
    version: str
    embedded: bool
    started_at: Ms
    seen_at: Ms
    queues: tuple[str, ...]
    """Empty: it serves every queue."""
    slots: dict[str, int]
    """Lane -> how many tasks it may run at once."""
    running: dict[str, int]
    """Lane -> how many it runs now."""
    tasks: tuple[str, ...] = ()
    """Ids it runs now (the first hundred)."""
    stopping: bool = False


class NameMetric(Struct, kw_only=True):
    """One minute of one task name on one queue. Histograms: bucket -> count."""

    queue: str
    name: str
    ok: int = 0
    failed: int = 0
    retried: int = 0
    wait: dict[int, int] = {}
    """From the moment it could run to its start."""
    run: dict[int, int] = {}


class MinuteMetric(Struct, frozen=True, kw_only=True):
    """One minute of one worker; `minute` is the stamp of its start."""

    minute: Ms
    worker: str
    items: list[NameMetric]


_SHORT = tuple(round(2 * log2(ms + 1)) for ms in range(1024))


def bucket(ms: int) -> int:
    """The histogram bucket of a duration: half powers of two, so within 20 % of the truth."""
    if 0 <= ms < 1024:
        return _SHORT[ms]
    return round(2 * log2(ms + 1)) if ms > 0 else 0


def quantile(histogram: dict[int, int], q: float) -> float | None:
    """The duration (ms) below which a share `q` of the observations lies; None: no data."""
    total = sum(histogram.values())
    if not total:
        return None
    seen = 0
    for b in sorted(histogram):
        seen += histogram[b]
        if seen >= q * total:
            return float(2 ** (b / 2) - 1)
    return None
