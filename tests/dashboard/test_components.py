"""Numbers, times, charts and values, as people read them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from omniq.dashboard.components.chart import Series, bars, curves, nice_top, numbers
from omniq.dashboard.components.format import ago, count, duration, size
from omniq.dashboard.components.timeline import spans, told
from omniq.dashboard.components.value import MASK, block, masked, sounds_secret
from omniq.dashboard.pages.about import readable
from omniq.dashboard.pages.overview import lately
from omniq.models import AttemptError, EventType, OmniQConfig, Status, TaskEvent, TaskRow
from omniq.models.config import StorageConfig


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "–"), (0, "0 ms"), (0.4, "<1 ms"), (12, "12 ms"), (999, "999 ms"),
        (1500, "1.50 s"), (12_340, "12.3 s"), (59_900, "59.9 s"), (60_000, "1 min"),
        (61_000, "1 min 1 s"), (3_600_000, "1 h"), (5_400_000, "1 h 30 min"),
        (90_000_000, "1 d 1 h"),
    ],
)  # fmt: skip
def test_lengths_of_time(ms: float | None, text: str) -> None:
    assert duration(ms) == text


@pytest.mark.parametrize(
    ("away", "text"),
    [
        (0, "now"), (-1000, "now"), (5_000, "5 s ago"), (-5_000, "in 5 s"), (65_000, "1 min ago"),
        (7_200_000, "2 h ago"), (-172_800_000, "in 2 d"),
    ],
)  # fmt: skip
def test_distances(away: int, text: str) -> None:
    assert ago(1_000_000_000_000, now=1_000_000_000_000 + away) == text


def test_counts_and_sizes() -> None:
    assert count(1234567) == "1\u202f234\u202f567"
    assert [size(n) for n in (12, 2048, 5 * 1024**2)] == ["12 B", "2.0 KiB", "5.0 MiB"]


@pytest.mark.parametrize("value", [0, 1, 3, 4, 5, 7, 9, 42, 99, 101, 260, 999, 12_345, 1e6])
def test_a_scale_ends_a_little_above_its_values(value: float) -> None:
    top = nice_top(value)
    assert top % 4 == 0
    assert max(value, 4) <= top <= max(4, value * 1.75 + 4)


def test_bars_are_as_high_as_they_say() -> None:
    html = str(bars("t", "Tasks", [Series("OK", "ok", [0.0, 10.0, 40.0])], 3, "50 in all"))
    assert html.count('class="ok" x=') == 2
    assert 'height="100.00"' in html
    assert 'height="25.00"' in html
    assert "this minute: 40 ok" in html
    assert "<title" in html
    assert "Tasks: 50 in all" in html
    assert "style=" not in html


def test_curves_leave_gaps_where_nothing_was_measured() -> None:
    values: list[float | None] = [10.0, 100.0, None, 1000.0, None]
    html = str(curves("c", "Run", [Series("p50", "mid", values)], 5, "fast"))
    assert 'd="M0.50 100.00L1.50 50.00M3.20 0.00h0.6"' in html
    assert html.count('class="hover"') == 3


def test_the_table_says_what_the_charts_draw() -> None:
    one = Series("OK", "ok", [1.0, 0.0, 3.0])
    two = Series("p50", "mid", [None, None, 250.0])
    html = str(numbers([("OK", one, str), ("p50", two, duration)], 3))
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", html)
    assert cells == ["Minute", "OK", "p50", "this minute", "3.0", "250 ms", "2 min ago", "1.0", "–"]


def row(**more: Any) -> TaskRow:
    given: dict[str, Any] = {
        "id": "x", "queue": "q", "lane": "async", "name": "n", "status": Status.SUCCEEDED,
        "created_at": 1000, "run_at": 1000, **more,
    }  # fmt: skip
    return TaskRow(**given)


def event(type: EventType, at: int, n: int = 1, **data: Any) -> TaskEvent:
    return TaskEvent(task="x", at=at, n=n, type=type, data=data)


def test_a_life_is_drawn_from_stamps_alone() -> None:
    done = row(run_at=2000, started_at=2500, finished_at=4000, attempt=1)
    found = [(s.look, s.start, s.end) for s in spans(done, [], 9000)]
    assert found == [("planned", 1000, 2000), ("wait", 2000, 2500), ("ok", 2500, 4000)]


def test_a_life_without_events_is_told_from_the_row() -> None:
    done = row(run_at=1000, started_at=1000, finished_at=1000, attempt=1, epoch=1)
    assert [e.type.value for e in told(done, [])] == ["enqueued", "executing", "complete"]
    for status, last in (
        (Status.FAILED, "dead"), (Status.CANCELLED, "cancelled"), (Status.EXPIRED, "expired"),
    ):  # fmt: skip
        ended = row(status=status, finished_at=2000)
        assert [e.type.value for e in told(ended, [])] == ["enqueued", last]
    assert [e.type.value for e in told(row(status=Status.READY), [])] == ["enqueued"]


def test_the_latest_of_tasks_and_events_together() -> None:
    rows = [
        row(id=f"t{n}", created_at=n * 10, started_at=n * 10 + 1, finished_at=n * 10 + 2)
        for n in range(10)
    ]
    bad = TaskEvent(task="other", at=95, type=EventType.DEAD)
    found = lately(rows, [bad])
    assert [(e.task, e.type.value) for e in found[:3]] == [
        ("other", "dead"), ("t9", "complete"), ("t9", "executing"),
    ]  # fmt: skip
    assert len(found) == 12


def test_a_life_with_a_retry() -> None:
    events = [
        event(EventType.ENQUEUED, 1000),
        event(EventType.ERROR, 1300, attempt=1),
        event(EventType.RETRY, 1300, 2, run_at=3000),
        event(EventType.COMPLETE, 3900, 1, attempt=2),
    ]
    done = row(run_at=3000, started_at=3100, finished_at=3900, attempt=2)
    found = [(s.look, s.start, s.end) for s in spans(done, events, 9000)]
    assert found == [
        ("bad", 1000, 1300), ("planned", 1300, 3000), ("wait", 3000, 3100), ("ok", 3100, 3900),
    ]  # fmt: skip
    assert [e.type.value for e in told(done, events)] == [
        "enqueued", "error", "retry", "executing", "complete",
    ]  # fmt: skip


def a_failure(started_at: int, at: int) -> AttemptError:
    return AttemptError(
        type="ValueError", message="no", attempt=1, at=at, started_at=started_at, worker="w"
    )


def test_a_replay_is_a_run_of_its_own() -> None:
    """Both runs are drawn, each with its start, though both are a first attempt."""
    events = [
        event(EventType.ERROR, 1300, attempt=1),
        event(EventType.DEAD, 1300, 2),
        event(EventType.ACTION, 5000, 3, action="retry", actor="ada"),
        event(EventType.ERROR, 5400, 4, attempt=1),
        event(EventType.DEAD, 5400, 5),
    ]
    errors = [a_failure(1100, 1300), a_failure(5100, 5400)]
    twice = row(
        status=Status.FAILED, run_at=5000, started_at=5100, finished_at=5400, attempt=1, epoch=2
    )
    assert [(s.look, s.label, s.start, s.end) for s in spans(twice, events, 9000, errors)] == [
        ("wait", "waited", 1000, 1100),
        ("bad", "attempt 1", 1100, 1300),
        ("planned", "at rest", 1300, 5000),
        ("wait", "waited", 5000, 5100),
        ("bad", "replay 1, attempt 1", 5100, 5400),
    ]
    assert [e.type.value for e in told(twice, events, errors)] == [
        "enqueued", "executing", "error", "dead", "action", "executing", "error", "dead",
    ]  # fmt: skip


def test_a_replay_of_what_was_cancelled_before_it_ran() -> None:
    events = [
        event(EventType.CANCELLED, 1500, 1),
        event(EventType.ACTION, 1500, 2, action="cancel", actor="ada"),
        event(EventType.ACTION, 3000, 3, action="retry", actor="ada"),
    ]
    again = row(run_at=3000, started_at=3100, finished_at=3900, attempt=1)
    assert [(s.look, s.label, s.end) for s in spans(again, events, 9000)] == [
        ("wait", "waited", 1500),
        ("planned", "at rest", 3000),
        ("wait", "waited", 3100),
        ("ok", "replay 1, attempt 1", 3900),
    ]


def test_attempts_are_told_where_no_events_are_kept() -> None:
    errors = [a_failure(1100, 1300)]
    bad = row(status=Status.FAILED, started_at=1100, finished_at=1300, attempt=1)
    assert [(s.look, s.start, s.end) for s in spans(bad, [], 9000, errors)] == [
        ("wait", 1000, 1100),
        ("bad", 1100, 1300),
    ]
    assert [e.type.value for e in told(bad, [], errors)] == [
        "enqueued", "executing", "error", "dead",
    ]  # fmt: skip


def test_what_goes_on_ends_now() -> None:
    running = row(status=Status.RUNNING, started_at=1500, attempt=1)
    assert [(s.look, s.end) for s in spans(running, [], 9000)] == [("wait", 1500), ("run", 9000)]
    ready = row(status=Status.READY)
    assert [(s.look, s.end) for s in spans(ready, [], 9000)] == [("wait", 9000)]
    ahead = row(status=Status.SCHEDULED, run_at=20_000)
    assert [(s.look, s.end) for s in spans(ahead, [], 9000)] == [("planned", 20_000)]


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("password", True), ("dbPassword", True), ("api_key", True), ("X-Api-Key", True),
        ("Authorization", True), ("access_token", True), ("cookie", True), ("secret_sauce", True),
        ("max_tokens", False), ("author", False), ("tokenizer", False), ("keyboard", False),
    ],
)  # fmt: skip
def test_names_that_sound_secret(key: str, secret: bool) -> None:
    assert sounds_secret(key) is secret
    assert masked({key: "v"}) == {key: MASK if secret else "v"}
    assert masked({key: None}) == {key: None}


def test_values_are_bounded() -> None:
    html = str(block("b", {"list": list(range(100_000)), "text": "x" * 100_000}))
    assert len(html) < 200_000
    assert "left out" in html
    assert "&lt;2 B of bytes&gt;" in str(block("b", b"ab"))
    deep: Any = "end"
    for _ in range(900):
        deep = {"in": [deep]}
    assert "…" in str(block("b", deep))


def test_settings_are_shown_without_their_secrets() -> None:
    config = OmniQConfig(
        storage=StorageConfig(url="postgresql://ada:hunter2@db/x?sslkey=abc"),
        result_storage=StorageConfig(options={"storage_options": {"account_key": "hunter4"}}),
        signing_keys=(("k1", "hunter3"),),
    )
    text = str(readable(config))
    assert "hunter" not in text
    assert "abc" not in text
    assert "k1" in text
    assert "db/x" in text
    assert "storage_options" in text
