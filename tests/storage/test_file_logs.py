"""Every place for files does what the log's port asks: one winner per number, names beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from obstore.store import MemoryStore

from omniq.errors import StorageError
from omniq.storage.file.home import FAR
from omniq.storage.file.keys import KeyLog
from omniq.storage.file.local import LocalLog
from omniq.storage.file.objects import ObstoreKeys
from omniq.storage.log.port import Log

from .file_places import PLACES, log_of, options_of


@pytest.fixture(params=PLACES)
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    return options_of(request.param, tmp_path, lambda: request.getfixturevalue("s3_server"))


@pytest.fixture
def new(options: dict[str, Any]) -> Iterator[Callable[..., Log]]:
    """Opens another log at the same place."""
    opened: list[Log] = []

    def make(namespace: str = "default") -> Log:
        log = log_of(options, namespace)
        log.open()
        opened.append(log)
        return log

    yield make
    for log in opened:
        log.close()


def test_an_empty_log(new: Callable[..., Log]) -> None:
    log = new()
    assert list(log.read_on(1)) == []
    assert log.first() == 1
    assert log.names("cp/") == []
    assert log.fetch("cp/last") is None
    log.cut(10)
    log.drop(["big/none"])


def test_a_number_is_created_once(new: Callable[..., Log]) -> None:
    one, two = new(), new()
    assert one.put(1, b"one")
    assert not two.put(1, b"two")
    assert list(two.read_on(1)) == [b"one"]
    assert two.put(2, b"two")
    assert list(one.read_on(1)) == [b"one", b"two"]
    assert list(one.read_on(3)) == []


def test_one_of_many_writers_wins_each_number(new: Callable[..., Log]) -> None:
    writers, rounds = 4, 12
    logs = [new() for _ in range(writers)]
    line = Barrier(writers)

    def race(mine: int) -> list[bool]:
        won = []
        for number in range(1, rounds + 1):
            line.wait(30)
            won.append(logs[mine].put(number, b"%d of %d" % (mine, number)))
        return won

    with ThreadPoolExecutor(writers) as threads:
        won = list(threads.map(race, range(writers)))
    assert [sum(column) for column in zip(*won, strict=True)] == [1] * rounds
    winners = [column.index(True) for column in zip(*won, strict=True)]
    kept = read_all(logs[0], 1)
    assert kept == [b"%d of %d" % (who, n) for n, who in enumerate(winners, 1)]


def test_many_segments_are_read_in_order(new: Callable[..., Log]) -> None:
    writer, reader = new(), new()
    written = [b"segment %d" % number for number in range(1, 41)]
    for number, data in enumerate(written, 1):
        assert writer.put(number, data)
    assert read_all(reader, 1) == written
    assert read_all(reader, 30) == written[29:]


def test_segments_are_cut_from_the_old_end_but_never_the_newest(new: Callable[..., Log]) -> None:
    log, other = new(), new()
    # 256 to a directory. Our own writer asks for the number before; a bucket is slow, and does not.
    for number in range(1, 513) if isinstance(log, LocalLog) else (1, 128, 256, 257, 384, 512):
        assert log.put(number, b"x%d" % number)
    log.cut(257)
    assert log.first() == 256
    assert list(other.read_on(1)) == []
    assert list(other.read_on(256))[:2] == [b"x256", b"x257"]
    log.cut(10_000)
    assert other.first() == 512
    assert list(other.read_on(512)) == [b"x512"]
    other.cut(10_000)
    assert log.first() == 512


def test_large_segments(new: Callable[..., Log]) -> None:
    log, large = new(), bytes(range(256)) * 4096
    assert log.put(1, large)
    assert log.put(2, large[::-1])
    assert read_all(log, 1) == [large, large[::-1]]


def test_objects_are_kept_once_and_replaced_at_will(new: Callable[..., Log]) -> None:
    one, two = new(), new()
    assert one.keep("cp/00000000000000000256", b"a checkpoint")
    assert not two.keep("cp/00000000000000000256", b"another")
    assert two.fetch("cp/00000000000000000256") == b"a checkpoint"
    one.replace("cp/last", b"1")
    two.replace("cp/last", b"22")
    assert one.fetch("cp/last") == b"22"


def test_parts_of_objects(new: Callable[..., Log]) -> None:
    log = new()
    log.keep("pack/one", bytes(range(100)))
    assert log.fetch("pack/one", 10, 5) == bytes(range(10, 15))
    assert log.fetch("pack/one", 0, 3) == bytes(range(3))
    assert log.fetch("pack/one", 90) == bytes(range(90, 100))
    assert log.fetch("pack/two", 0, 3) is None


def test_names_and_their_removal(new: Callable[..., Log]) -> None:
    log = new()
    for name in ("cp/2", "cp/1", "cp/last", "pack/1", "beat/a-worker.1=2"):
        log.keep(name, b"x")
    assert log.names("cp/") == ["cp/1", "cp/2", "cp/last"]
    assert log.names("cp/l") == ["cp/last"]
    assert log.names("beat/") == ["beat/a-worker.1=2"]
    log.drop(["cp/1", "cp/none", "pack/1"])
    assert log.names("cp/") == ["cp/2", "cp/last"]
    assert log.names("pack/") == []
    log.drop([f"big/{n}" for n in range(40)])
    log.drop([])


def test_namespaces_are_apart(new: Callable[..., Log]) -> None:
    one, two = new("one"), new("two")
    assert one.put(1, b"of one")
    assert two.put(1, b"of two")
    one.keep("cp/1", b"x")
    assert list(one.read_on(1)) == [b"of one"]
    assert two.names("cp/") == []


@pytest.mark.parametrize("name", ["../1", "cp/../../1", "/etc/x", "cp//1", "cp/\x00", "cp/a b", ""])
def test_names_lead_nowhere_else(new: Callable[..., Log], name: str) -> None:
    log = new()
    with pytest.raises(StorageError, match="no name"):
        log.keep(name, b"x")
    with pytest.raises(StorageError, match="no name"):
        log.fetch(name)
    with pytest.raises(StorageError, match="no name"):
        log.drop([name])


def test_a_closed_log_opens_again(new: Callable[..., Log]) -> None:
    log = new()
    assert log.put(1, b"x")
    log.close()
    log.close()
    log.open()
    assert list(log.read_on(1)) == [b"x"]


def test_the_turn_is_a_hint(new: Callable[..., Log]) -> None:
    one, two = new(), new()
    with one.turn(), two.turn():
        assert one.put(1, b"x")
    with two.turn():
        assert not two.put(1, b"y")


def read_all(log: Log, number: int) -> list[bytes]:
    found: list[bytes] = []
    while part := log.read_on(number + len(found)):
        found += part
    return found


def test_a_program_that_ends_can_still_read_what_others_wrote(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tasks are given back when no more threads can be started; others may have written."""
    keys = ObstoreKeys(MemoryStore(), "memory", "default")
    keys.remote = True
    log = KeyLog(lambda: keys, FAR)
    log.open()
    written = [b"%d" % number for number in range(1, 40)]
    for number, data in enumerate(written, 1):
        assert log.put(number, data)

    def ended(*_: object) -> None:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", ended)
    assert list(log.read_on(1)) == written
