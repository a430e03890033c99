"""A store that does not answer is told of at once, then ever more rarely, and once more at its end."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from omniq.errors import StorageUnavailable
from omniq.queue.outage import Outage

AWAY = StorageUnavailable("nobody there")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outage(clock: Clock, caplog: pytest.LogCaptureFixture) -> Iterator[Outage]:
    with caplog.at_level(logging.INFO, logger="omniq.worker"):
        yield Outage(logging.getLogger("omniq.worker"), now=clock)


def test_pauses_grow_up_to_a_minute(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    told = []
    for second in range(400):
        clock.now = 100.0 + second
        outage.failed("the store does not answer", AWAY)
        told += [second] * len(caplog.records)
        caplog.clear()
    assert told == [0, 5, 15, 35, 75, 135, 195, 255, 315, 375]


def test_its_words(outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    assert not outage.on
    outage.answered("the store does not answer")
    outage.failed("the store does not answer", AWAY)
    assert outage.on
    clock.now += 5
    outage.failed("the store does not answer", AWAY)
    clock.now += 2.25
    for _ in range(3):
        outage.answered("the store does not answer")
    assert not outage.on
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "the store does not answer, trying again: nobody there"),
        ("WARNING", "the store does not answer, for 5 s now: nobody there"),
        ("WARNING", "the store answers again, after 7.2 s"),
    ]


def test_each_outage_is_told_at_once(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        outage.failed("the store does not answer", AWAY)
        clock.now += 0.5
        outage.answered("the store does not answer")
    assert len(caplog.records) == 4


def test_what_fails_for_the_same_reason_is_told_once(
    outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    outage.failed("the store does not answer", AWAY)
    outage.failed("listening fails", AWAY)
    outage.answered("the store does not answer")
    assert outage.on, "one of the two still fails"
    outage.answered("listening fails")
    assert not outage.on
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "the store does not answer",
        "the store answers again",
    ]
