"""JetStream as a log: a number is taken once, everybody sees what was put, nothing returns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from omniq.errors import StorageClosed
from omniq.storage.log.port import Rewound
from omniq.storage.nats import connection, feed
from omniq.storage.nats.log import NATSLog

from .nats_hand import new_namespace, opened, operate


@pytest.fixture
def namespace() -> str:
    return new_namespace()


@pytest.fixture
def log(nats_url: str, namespace: str) -> Iterator[NATSLog]:
    with opened(nats_url, namespace) as log:
        yield log


@pytest.fixture
def other(nats_url: str, namespace: str, log: NATSLog) -> Iterator[NATSLog]:
    with opened(nats_url, namespace) as other:
        yield other


def all_from(log: NATSLog, number: int) -> list[bytes]:
    """Everything there is, however many goes it takes."""
    read: list[bytes] = []
    while more := log.read_on(number + len(read)):
        read += more
    return read


class Ear:
    """Told of what comes, which a log hears of while it rests."""

    def __init__(self, log: NATSLog) -> None:
        self.log = log
        self.told = 0
        assert log.follow(self.tell)

    def tell(self) -> None:
        self.told += 1
        self.log.wake()

    def until(self, true: Callable[[], bool]) -> None:
        """Rest until it is so; what comes wakes, or the beat of the consumer's keeper."""
        end = time.monotonic() + 60
        while not true():
            assert time.monotonic() < end
            self.log.rest(0.05)


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer is not made again because this process stood still for a while."""
    monkeypatch.setattr(feed, "SILENCE", 600)


def test_an_empty_log_begins_at_one(log: NATSLog) -> None:
    assert log.first() == 1
    assert log.read_on(1) == ()
    assert log.put(1, b"one")
    assert list(log.read_on(1)) == [b"one"]


def test_a_number_is_taken_once_and_none_is_left_out(log: NATSLog, other: NATSLog) -> None:
    assert not log.put(2, b"two")
    assert log.put(1, b"one")
    assert not other.put(1, b"uno")
    assert not log.put(3, b"three")
    assert other.put(2, b"two")
    assert all_from(log, 1) == [b"one", b"two"]


def test_of_those_who_put_a_number_at_once_one_succeeds(log: NATSLog, other: NATSLog) -> None:
    with ThreadPoolExecutor(2) as pool:
        for number in range(1, 101):
            puts = [
                pool.submit(who.put, number, name) for who, name in ((log, b"a"), (other, b"b"))
            ]
            won = [put.result() for put in puts]
            assert sorted(won) == [False, True]
            assert list(other.read_on(number)) == [b"a" if won[0] else b"b"]


def test_what_was_put_is_seen_at_once_by_all(log: NATSLog, other: NATSLog) -> None:
    for number in range(1, 201):
        writer, reader = (log, other) if number % 2 else (other, log)
        assert writer.put(number, b"%d" % number)
        assert list(reader.read_on(number)) == [b"%d" % number]
    assert log.read_on(201) == ()


def test_a_long_log_is_read_in_order(log: NATSLog, nats_url: str, namespace: str) -> None:
    for number in range(1, 301):
        assert log.put(number, b"%d" % number)
    with opened(nats_url, namespace) as late:
        assert all_from(late, 1) == [b"%d" % number for number in range(1, 301)]
        # And once more from the middle, as one does who begins at a checkpoint.
        assert late.read_on(150)[0] == b"150"
        assert late.read_on(151)[0] == b"151"


@pytest.mark.usefixtures("steady")
def test_it_tells_of_what_others_put_only(log: NATSLog, other: NATSLog) -> None:
    ear = Ear(log)
    assert other.put(1, b"one")
    ear.until(lambda: ear.told == 2)  # of the consumer's making, and of what came
    assert list(log.read_on(1)) == [b"one"]
    assert log.put(2, b"two")
    assert all_from(other, 1) == [b"one", b"two"]
    ear.until(lambda: log._feed._next == 3)  # it has come here, too
    assert log.read_on(3) == ()
    assert ear.told == 2


def test_what_is_cut_stays_away_and_its_numbers_too(
    log: NATSLog, nats_url: str, namespace: str
) -> None:
    for number in range(1, 6):
        assert log.put(number, b"x")
    log.cut(4)
    assert log.first() == 4
    assert not log.put(2, b"again")
    with opened(nats_url, namespace) as late:
        assert late.read_on(2) == ()
        assert all_from(late, 4) == [b"x", b"x"]
    log.cut(99)
    assert log.first() == 5, "the newest one stays"
    assert log.put(6, b"on")


def test_a_stream_made_anew_is_noticed(log: NATSLog, nats_url: str, namespace: str) -> None:
    for number in range(1, 4):
        assert log.put(number, b"x")

    async def remove(client: Client) -> None:
        assert await client.jetstream(timeout=60).delete_stream(f"OQ_{namespace}")

    operate(nats_url, remove)
    with pytest.raises(Rewound):
        log.read_on(4)
    assert not log.put(4, b"x")
    assert log.read_on(1) == ()
    assert log.put(1, b"new")
    assert list(log.read_on(1)) == [b"new"]


def test_a_lost_consumer_is_made_again(
    log: NATSLog, other: NATSLog, nats_url: str, namespace: str
) -> None:
    ear = Ear(log)

    async def lose(client: Client) -> int:
        stream = client.jetstream(timeout=60)
        there = await stream.consumers_info(f"OQ_{namespace}")
        for consumer in there:
            with suppress(NotFoundError):  # made anew meanwhile
                await stream.delete_consumer(f"OQ_{namespace}", consumer.name)
        return len(there)

    assert other.put(1, b"one")
    ear.until(lambda: ear.told >= 2)  # of the consumer's making, and of what came
    assert operate(nats_url, lose)
    told = ear.told
    assert other.put(2, b"two")
    ear.until(lambda: ear.told > told)  # of what came while there was no consumer
    assert all_from(log, 1) == [b"one", b"two"]


def test_its_clock_is_the_servers(log: NATSLog) -> None:
    before, now, after = time.time(), log.now(), time.time()
    assert now is not None
    assert before * 1000 - 1 <= now <= after * 1000 + 1


def test_an_answer_that_came_while_the_process_stood_still_is_heard(
    log: NATSLog, steady: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "THERE_SECONDS", 60)
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 90)

    of = log._connection

    async def ask() -> str:
        asking = asyncio.ensure_future(of.api("INFO"))
        while not any(
            each.timer for each in of._waiting.values() if each.subject == of.api_subject("INFO")
        ):
            await asyncio.sleep(0)
            assert not asking.done()
        await asyncio.sleep(0)  # it is sent, and no answer read: the loop has not looked since
        stand_still(monkeypatch, 100)
        return str((await asking)["type"])

    assert log._run(ask).endswith("account_info_response")


def stand_still(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """To the loop that runs, so much time is gone before it looks at anything again."""
    loop = asyncio.get_running_loop()
    now = loop.time
    time.sleep(0.1)  # an answer comes in it; how fast, does not matter
    monkeypatch.setattr(loop, "time", lambda: now() + seconds)


def test_a_closed_log_says_so(log: NATSLog) -> None:
    log.close()
    log.close()
    with pytest.raises(StorageClosed):
        log.put(1, b"x")


# ---- objects


def test_an_object_is_created_once(log: NATSLog, other: NATSLog) -> None:
    assert log.fetch("big/x") is None
    assert log.keep("big/x", b"first")
    assert not other.keep("big/x", b"second")
    assert other.fetch("big/x") == b"first"


def test_of_those_who_create_an_object_at_once_one_succeeds(log: NATSLog, other: NATSLog) -> None:
    with ThreadPoolExecutor(2) as pool:
        for n in range(30):
            puts = [
                pool.submit(who.keep, f"cp/{n}", name) for who, name in ((log, b"a"), (other, b"b"))
            ]
            won = [put.result() for put in puts]
            assert sorted(won) == [False, True]
            assert log.fetch(f"cp/{n}") == (b"a" if won[0] else b"b")


def test_a_large_object_comes_back_whole_and_in_parts(log: NATSLog) -> None:
    data = bytes(range(256)) * 4_500  # more than a message takes, and no whole number of chunks
    assert log.keep("pack/large", data)
    assert log.fetch("pack/large") == data
    assert log.fetch("pack/large", 131_000, 300_000) == data[131_000:431_000]
    assert log.fetch("pack/large", len(data) - 3, 100) == data[-3:]
    assert log.fetch("pack/large", len(data), 5) == b""
    assert log.keep("pack/empty", b"")
    assert log.fetch("pack/empty") == b""


def test_an_object_is_replaced_listed_and_dropped(
    log: NATSLog, nats_url: str, namespace: str
) -> None:
    for name in ("cp/00001", "cp/00002", "beat/some_owner-1", "cp/last"):
        log.replace(name, b"old")
    log.replace("cp/last", b"new" * 100_000)
    assert log.fetch("cp/last") == b"new" * 100_000
    assert log.names("cp/") == ["cp/00001", "cp/00002", "cp/last"]
    assert log.names("nothing/") == []
    log.drop(["cp/00001", "cp/never", "cp/last"])
    assert log.names("") == ["beat/some_owner-1", "cp/00002"]
    assert log.fetch("cp/00001") is None
    assert log.keep("cp/00001", b"again")

    async def messages(client: Client) -> int:
        info = await client.jetstream(timeout=60).stream_info(f"OBJ_OQ_{namespace}")
        return info.state.messages

    assert operate(nats_url, messages) == 2 * 3, "a chunk and a description of each object"


def test_the_servers_own_tools_can_read_the_objects(
    log: NATSLog, nats_url: str, namespace: str
) -> None:
    data = b"0123456789" * 50_000
    assert log.keep("big/one", data)

    async def read(client: Client) -> tuple[bytes | None, int | None]:
        bucket = await client.jetstream(timeout=60).object_store(f"OQ_{namespace}")
        found = await bucket.get("big/one")
        await bucket.delete("big/one")
        return found.data, found.info.chunks

    assert operate(nats_url, read) == (data, 4)
    assert log.fetch("big/one") is None, "removed by a tool, which leaves a mark"
    assert log.keep("big/one", b"again")
    assert log.fetch("big/one") == b"again"


def test_the_streams_are_what_an_operator_expects(
    log: NATSLog, nats_url: str, namespace: str
) -> None:
    async def look(client: Client) -> list[object]:
        config = (await client.jetstream(timeout=60).stream_info(f"OQ_{namespace}")).config
        return [config.subjects, config.retention, config.discard, config.storage]

    assert operate(nats_url, look) == [[f"oq.{namespace}.log"], "limits", "new", "file"]
