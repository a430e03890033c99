"""The rules: what follows from how a run ended."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniq.events.gate import EventGate
from omniq.ids import uuid7
from omniq.models import AttemptError, EventType, Flag, RetryPolicy, Status, TaskBody, TaskRow
from omniq.models.outcome import (
    Cancelled,
    Failed,
    Outcome,
    Released,
    Snoozed,
    Succeeded,
    UnknownFunction,
)
from omniq.models.units import Fence
from omniq.queue import policy

NOW = 1_800_000_000_000
RULES = policy.Rules(events=EventGate("DEBUG"))


def row(**fields: object) -> TaskRow:
    base = {
        "id": uuid7(), "queue": "default", "lane": "async", "name": "m:f",
        "status": Status.RUNNING, "attempt": 1, "epoch": 1, "claim": "c", "run_at": NOW - 5,
    }  # fmt: skip
    return TaskRow(**{**base, **fields})  # type: ignore[arg-type]


def failed(type: str = "ValueError", *bases: str, **options: object) -> Failed:
    error = AttemptError(type=type, message="no", bases=bases or (type, "Exception"))
    return Failed(error, **options)  # type: ignore[arg-type]


BODY = TaskBody(b"")


def settle(outcome: Outcome, body: TaskBody = BODY, **fields: object):
    return policy.settle(row(**fields), body, outcome, NOW, RULES)


def test_every_move_shows_the_fence_of_its_claim() -> None:
    outcomes = [
        Succeeded(b"v"), failed(), Snoozed(1), Released(), Cancelled(), UnknownFunction("?"),
    ]  # fmt: skip
    for outcome in outcomes:
        move = settle(outcome, epoch=7, claim="mine")
        assert move.fence == Fence(7, "mine")
        assert move.expect == (Status.RUNNING,)


def test_success_keeps_the_result_for_its_ttl_and_the_row_at_least_as_long() -> None:
    move = settle(Succeeded(b"v"), TaskBody(b"", result_ttl=200_000))
    assert move.to is Status.SUCCEEDED
    assert move.result == (b"v", NOW + 200_000_000)
    assert move.patch["keep_until"] == NOW + 200_000_000
    short = settle(Succeeded(b"v"), TaskBody(b"", result_ttl=1))
    assert short.patch["keep_until"] == NOW + RULES.history


def test_a_failure_is_retried_until_its_retries_are_used_up() -> None:
    body = TaskBody(b"", retry=RetryPolicy(retries=2, delay=1, jitter=0))
    first = settle(failed(), body, attempt=1)
    assert (first.to, first.patch["run_at"]) == (Status.READY, NOW + 1000)
    second = settle(failed(), body, attempt=2)
    assert (second.to, second.patch["run_at"]) == (Status.READY, NOW + 2000)
    last = settle(failed(), body, attempt=3)
    assert last.to is Status.FAILED
    assert [e.type for e in last.events] == [EventType.ERROR, EventType.DEAD]


@given(st.integers(1, 200), st.floats(0, 1), st.floats(0.01, 100))
def test_a_delay_grows_is_capped_and_jitters_upwards_only(
    attempt: int, jitter: float, delay: float
) -> None:
    rule = RetryPolicy(delay=delay, factor=2, max_delay=60, jitter=jitter)
    bare = min(delay * 2 ** (attempt - 1), 60)
    assert bare <= policy.retry_delay(rule, attempt) <= bare * (1 + jitter) + 1e-9


def test_a_huge_attempt_does_not_overflow() -> None:
    assert policy.retry_delay(RetryPolicy(jitter=0), 1_000_000) == 3600


@pytest.mark.parametrize(
    ("only", "never", "retried"),
    [
        ((), (), True),
        (("OSError",), (), True),
        (("KeyError",), (), False),
        ((), ("ConnectionError",), False),
        (("OSError",), ("ConnectionError",), False),
    ],
)
def test_rules_match_an_exception_by_all_its_bases(
    only: tuple[str, ...], never: tuple[str, ...], retried: bool
) -> None:
    error = failed("ConnectionResetError", "ConnectionResetError", "ConnectionError", "OSError")
    move = settle(error, TaskBody(b"", retry=RetryPolicy(only=only, never=never)))
    assert (move.to is Status.READY) is retried


def test_the_tasks_own_word_overrules_the_rules() -> None:
    none_left = TaskBody(b"", retry=RetryPolicy(retries=0))
    again = settle(failed(again=True, delay=5.0), none_left)
    assert (again.to, again.patch["run_at"]) == (Status.READY, NOW + 5000)
    assert settle(failed(again=False)).to is Status.FAILED


def test_errors_are_remembered_the_newest_last_and_only_so_many() -> None:
    blob = None
    for n in range(1, 15):
        move = settle(failed(f"E{n}"), TaskBody(b"", retry=RetryPolicy(retries=99)), error=blob)
        blob = move.patch["error"]
    kept = policy.errors_of(row(error=blob))
    assert [e.type for e in kept] == [f"E{n}" for n in range(5, 15)]
    assert {e.at for e in kept} == {NOW}


@pytest.mark.parametrize(
    "outcome", [Snoozed(3), Released(), Released(started=False), UnknownFunction("?")]
)
def test_what_is_given_back_costs_no_attempt(outcome: Outcome) -> None:
    move = settle(outcome, attempt=2)
    assert move.to is Status.READY
    assert move.patch["attempt"] == 1


@pytest.mark.parametrize("outcome", [Snoozed(3), Released(), failed()])
def test_what_was_started_in_time_does_not_expire_for_what_stopped_it(outcome: Outcome) -> None:
    assert settle(outcome, expires_at=NOW + 1).patch["expires_at"] is None
    lost = row(flags=Flag.LOST, losses=1, expires_at=NOW + 1)
    assert policy.settle_chore(lost, BODY, NOW, RULES).patch["expires_at"] is None
    for never in (UnknownFunction("?"), Released(started=False)):
        assert "expires_at" not in settle(never, expires_at=NOW + 1).patch


def test_an_unknown_function_waits_longer_each_time() -> None:
    waits = [
        settle(UnknownFunction("?"), epoch=n).patch["run_at"] - NOW for n in (1, 2, 3, 4, 5, 99)
    ]
    assert waits == sorted(waits)
    assert waits[0] == 1000
    assert waits[-1] == 300_000


def test_a_lost_worker_costs_no_attempt_until_the_task_looks_like_poison() -> None:
    lost = row(flags=Flag.LOST, losses=3, attempt=2)
    back = policy.settle_chore(lost, BODY, NOW, RULES)
    assert (back.to, back.patch["attempt"]) == (Status.READY, 1)
    poison = policy.settle_chore(msgspec.structs.replace(lost, losses=4), BODY, NOW, RULES)
    assert poison.to is Status.FAILED
    assert poison.patch["fault"] == "omniq.WorkerLost"


def test_chores_end_as_their_reason_says() -> None:
    def end(**fields: object) -> Status | None:
        return policy.settle_chore(row(**fields), BODY, NOW, RULES).to

    assert end(flags=Flag.EXPIRED) is Status.EXPIRED
    assert end(flags=Flag.STRANDED) is Status.FAILED
    assert end(flags=Flag.LOST, losses=1, cancel=True) is Status.CANCELLED
    assert end(flags=Flag.LOST, losses=1) is Status.READY


def test_a_replay_starts_from_the_beginning() -> None:
    ended = row(status=Status.FAILED, attempt=4, losses=2, fault="ValueError")
    move = policy.replay(ended, NOW)
    assert (move.to, move.expect) == (Status.READY, (Status.FAILED,))
    assert move.patch["attempt"] == 0
    assert move.patch["keep_until"] is None


def test_events_below_the_level_are_not_even_made() -> None:
    quiet = policy.Rules(events=EventGate("DISABLED"))
    assert policy.settle(row(), BODY, Succeeded(b"v"), NOW, quiet).events == ()
    loud = policy.settle(row(), BODY, Succeeded(b"v"), NOW, RULES).events
    assert [e.type for e in loud] == [EventType.COMPLETE]


def test_who_cancelled_and_that_it_was_cancelled_are_two_events() -> None:
    """Also in the same millisecond: an event is known by (task, epoch, n)."""
    row = TaskRow(id=uuid7(), queue="default", lane="async", name="add", status=Status.READY)
    (cancelled,) = policy.cancel(row.id, 5, RULES).events
    (acted,) = policy.action(row, "cancel", "ada", 5, RULES).events
    assert (cancelled.epoch, cancelled.n) != (acted.epoch, acted.n)
