"""Events as JSON lines: the files, several writers, crashes, and questions by SQL."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from omniq.clock import ManualClock
from omniq.errors import ConfigError, StorageClosed, StorageError, StorageUnavailable
from omniq.models import EventType, PutEvents, PutResult
from omniq.models.filters import EventFilter
from omniq.storage.jsonl import AsyncJSONLEventStorage, days
from tests.conformance.kit import HOUR, SECOND, START, event

pytestmark = pytest.mark.asyncio
DAY = 24 * HOUR


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "base" / "events"


@pytest_asyncio.fixture
async def place(folder: Path, clock: ManualClock) -> AsyncIterator[AsyncJSONLEventStorage]:
    async with AsyncJSONLEventStorage(folder, clock=clock) as place:
        yield place


async def tell(place: AsyncJSONLEventStorage, *events: object) -> None:
    await place.apply([PutEvents(events)])  # type: ignore[arg-type]


async def numbers(place: AsyncJSONLEventStorage, filter: EventFilter | None = None) -> list[int]:
    found = await place.read_events(filter or EventFilter(), limit=100_000)
    return [e.n for e in found.events]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.jsonl"))


# ---- files


async def test_a_line_is_what_any_tool_can_read(
    place: AsyncJSONLEventStorage, folder: Path
) -> None:
    await tell(place, event("t", 1, epoch=2, worker="w", data={"why": "ü\n"}, keep_until=START + 5))
    [name] = names(folder)
    assert name == f"events-{datetime.fromtimestamp(START / 1000).date()}.jsonl"
    [line] = (folder / name).read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {
        "no": 1,
        "task": "t",
        "epoch": 2,
        "n": 1,
        "at": START,
        "type": "enqueued",
        "queue": "q",
        "name": "app:work",
        "worker": "w",
        "data": {"why": "ü\n"},
        "keep_until": START + 5,
    }
    assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / ".gitignore").read_text() == "*\n"


async def test_each_day_has_its_file_and_order_goes_through_all(
    place: AsyncJSONLEventStorage, folder: Path, clock: ManualClock
) -> None:
    for n in range(9):
        await tell(place, event("t", n))
        clock.advance(8 * 3600)
    assert len(names(folder)) in (3, 4)
    assert await numbers(place) == list(range(9))
    assert await numbers(place, EventFilter(newest_first=True)) == list(range(8, -1, -1))
    seen: list[int] = []
    cursor: str | None = None
    for _ in range(5):
        page = await place.read_events(EventFilter(), after=cursor, limit=2)
        seen += [e.n for e in page.events]
        cursor = page.cursor
    assert seen == list(range(9))


async def test_a_slow_clock_does_not_write_into_the_past(
    place: AsyncJSONLEventStorage, folder: Path, clock: ManualClock
) -> None:
    """Or a reader behind the newest file would never see it."""
    clock.advance(DAY / 1000)
    await tell(place, event("t", 1))
    cursor = (await place.read_events(EventFilter())).cursor
    late = AsyncJSONLEventStorage(folder, clock=ManualClock(START))
    async with late:
        await tell(late, event("t", 2))
    assert len(names(folder)) == 1
    assert [e.n for e in (await place.read_events(EventFilter(), after=cursor)).events] == [2]


async def test_files_go_when_the_last_of_their_events_is_past_its_time(
    place: AsyncJSONLEventStorage, folder: Path, clock: ManualClock
) -> None:
    for n in range(4):
        keep = clock.now() + DAY + HOUR
        await tell(place, event("t", n, keep_until=keep), event("u", n, keep_until=keep - HOUR))
        clock.advance(DAY / 1000)
    assert len(names(folder)) == 4
    assert await numbers(place) == [3]
    assert await place.sweep() == 6
    assert len(names(folder)) == 1
    assert await place.sweep() == 0
    assert await numbers(place) == [3]
    await tell(place, event("t", 9))
    assert await numbers(place) == [3, 9]


async def test_events_kept_for_good_keep_their_file(
    place: AsyncJSONLEventStorage, folder: Path, clock: ManualClock
) -> None:
    await tell(place, event("t", 1), event("t", 2, keep_until=START + SECOND))
    clock.advance(2 * DAY / 1000)
    await tell(place, event("t", 3))
    assert await place.sweep() == 0
    assert await numbers(place) == [1, 3]


async def test_namespaces_are_directories(folder: Path, clock: ManualClock) -> None:
    one = AsyncJSONLEventStorage(folder, namespace="one", clock=clock)
    two = AsyncJSONLEventStorage(folder, namespace="two", clock=clock)
    async with one, two:
        await tell(one, event("t", 1))
        assert await numbers(two) == []
        assert await numbers(one) == [1]
        async with one.twin() as again:
            assert await numbers(again) == [1]


# ---- several writers


async def test_several_processes_write_at_once(place: AsyncJSONLEventStorage, folder: Path) -> None:
    program = f"""
        import asyncio, sys
        from omniq.clock import ManualClock  # a day may end, and with it a file
        from omniq.storage.jsonl import AsyncJSONLEventStorage
        from omniq.models import PutEvents, TaskEvent, EventType
        async def main(who):
            async with AsyncJSONLEventStorage({str(folder)!r}, clock=ManualClock()) as place:
                for n in range(100):
                    event = TaskEvent(task=who, n=n, at=0, type=EventType.ERROR, data={{"x": who * n}})
                    await place.apply([PutEvents((event,))])
        asyncio.run(main(sys.argv[1]))
    """
    writers = [start(program, f"w{n}") for n in range(4)]
    for writer in writers:
        await asyncio.to_thread(writer.communicate)
        assert writer.returncode == 0
    found = (await place.read_events(EventFilter(), limit=1000)).events
    for n in range(4):
        assert [e.n for e in found if e.task == f"w{n}"] == list(range(100))
    lines = (folder / names(folder)[0]).read_text().splitlines()
    assert [json.loads(line)["no"] for line in lines] == list(range(1, 401))


async def test_what_another_process_told_is_not_told_again(
    place: AsyncJSONLEventStorage, folder: Path, clock: ManualClock
) -> None:
    async with AsyncJSONLEventStorage(folder, clock=clock) as other:
        await tell(place, event("t", 1))
        await tell(other, event("t", 1), event("t", 2))
        await tell(place, event("t", 2), event("t", 3))
        assert await numbers(place) == [1, 2, 3]


async def test_a_new_process_knows_what_was_told_before(folder: Path, clock: ManualClock) -> None:
    for _ in range(3):
        async with AsyncJSONLEventStorage(folder, clock=clock) as place:
            await tell(place, *(event("t", n) for n in range(50)))
            assert await numbers(place) == list(range(50))
        clock.advance(DAY / 1000)


async def test_memory_for_what_was_told_is_bounded(
    place: AsyncJSONLEventStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(days, "RECENT", 10)
    await tell(place, *(event("t", n) for n in range(50)))
    assert len(place._days._recent) == 10
    await tell(place, event("t", 45))
    assert await numbers(place) == list(range(50))


async def test_a_reader_hears_of_what_other_processes_tell(
    place: AsyncJSONLEventStorage, folder: Path, clock: ManualClock
) -> None:
    async with (
        AsyncJSONLEventStorage(folder, clock=clock) as other,
        place.listen({"events"}) as ear,
    ):
        assert await ear.wait(0) == set()
        await tell(place, event("t", 1))
        assert await ear.wait(30) == {"events"}
        await tell(other, event("t", 2))
        assert await ear.wait(30) == {"events"}
        assert await ear.wait(0) == set()


# ---- crashes


@pytest.mark.parametrize("torn", ['{"no":3,"task":"t","ep', '{"no":3', "{", '{"no":3}'])
async def test_a_line_that_was_cut_off_is_passed_over_and_taken_away(
    place: AsyncJSONLEventStorage, folder: Path, torn: str
) -> None:
    await tell(place, event("t", 1), event("t", 2))
    path = folder / names(folder)[0]
    with path.open("a") as file:
        file.write(torn)
    assert [n for n in await numbers(place) if n] == [1, 2]
    await tell(place, event("t", 3))
    assert await numbers(place) == [1, 2, 3]
    assert torn + "{" not in path.read_text()
    assert [json.loads(line)["no"] for line in path.read_text().splitlines()] == [1, 2, 3]


async def test_a_damaged_line_harms_no_other(place: AsyncJSONLEventStorage, folder: Path) -> None:
    await tell(place, event("t", 1))
    path = folder / names(folder)[0]
    with path.open("ab") as file:
        file.write(b"\x00\xff not json\n\n")
    await tell(place, event("t", 2))
    async with AsyncJSONLEventStorage(folder, clock=place.clock) as fresh:
        assert await numbers(fresh) == [1, 2]
        await tell(fresh, event("t", 2), event("t", 3))
        assert await numbers(fresh) == [1, 2, 3]


async def test_a_killed_writer_loses_nothing_that_was_acknowledged(
    place: AsyncJSONLEventStorage, folder: Path
) -> None:
    program = f"""
        import asyncio
        from omniq.storage.jsonl import AsyncJSONLEventStorage
        from omniq.models import PutEvents, TaskEvent, EventType
        async def main():
            async with AsyncJSONLEventStorage({str(folder)!r}) as place:
                for n in range(10**9):
                    event = TaskEvent(task="t", n=n, at=0, type=EventType.ERROR, data={{"x": "y" * n}})
                    await place.apply([PutEvents((event,))])
                    print(n, flush=True)
        asyncio.run(main())
    """
    writer = start(program)
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(100)]
    writer.send_signal(signal.SIGKILL)
    # Not by communicate(), which knows nothing of what readline() has read ahead.
    acknowledged += [int(line) for line in writer.stdout.read().splitlines()]
    writer.communicate()
    found = await numbers(place)
    assert found[: len(acknowledged)] == acknowledged
    assert len(found) <= len(acknowledged) + 1
    await tell(place, event("t", len(found)))
    assert await numbers(place) == list(range(len(found) + 1))


async def test_a_full_disk_is_said_and_works_again_when_there_is_room(folder: Path) -> None:
    """The size of files is limited here, which the system answers as it does a full disk."""
    program = f"""
        import asyncio, resource, signal
        from omniq.errors import StorageUnavailable
        from omniq.storage.jsonl import AsyncJSONLEventStorage
        from omniq.models import PutEvents, TaskEvent, EventType
        from omniq.models.filters import EventFilter
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        async def main():
            async with AsyncJSONLEventStorage({str(folder)!r}) as place:
                resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
                done = 0
                for n in range(100):
                    event = TaskEvent(task="t", n=n, at=0, type=EventType.ERROR)
                    try:
                        await place.apply([PutEvents((event,))])
                    except StorageUnavailable as error:
                        assert "too large" in str(error), error
                        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
                        await place.apply([PutEvents((event,))])
                    done += 1
                found = await place.read_events(EventFilter(), limit=1000)
                assert [e.n for e in found.events] == list(range(100)), found
                print(done)
        asyncio.run(main())
    """
    writer = start(program)
    out, _ = writer.communicate(timeout=110)
    assert (writer.returncode, out) == (0, "100\n")


async def test_strict_writes_to_the_disk_before_it_answers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    strict = AsyncJSONLEventStorage(folder, durability="strict")
    assert strict.capabilities.durability == "power"
    with caplog.at_level(logging.INFO, "omniq.storage"):
        async with strict:
            await tell(strict, event("t", 1))
            assert len(synced) == 2, "the file and, since it is new, its directory"
            await tell(strict, event("t", 2))
            assert len(synced) == 3
    assert "Events are kept at JSON lines in" in caplog.text
    assert "survives a loss of power" in caplog.text
    with pytest.raises(ConfigError, match="strict"):
        AsyncJSONLEventStorage(folder, durability="very")  # type: ignore[arg-type]


# ---- what is refused


async def test_it_keeps_events_only(place: AsyncJSONLEventStorage) -> None:
    with pytest.raises(StorageError, match="events only"):
        await place.apply([PutResult("t", 1, b"v")])


async def test_it_must_be_open(folder: Path) -> None:
    place = AsyncJSONLEventStorage(folder)
    assert not place.exists()
    with pytest.raises(StorageClosed):
        await tell(place, event("t"))
    with pytest.raises(StorageClosed):
        await place.read_events(EventFilter())
    assert not folder.exists()


@pytest.mark.parametrize("path", ["/tmp/../etc", "a\nb", "a\x00b"])
async def test_a_path_nobody_means_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="OMNIQ_EVENT_STORAGE_URL"):
        AsyncJSONLEventStorage(path)


@pytest.mark.parametrize("namespace", ["", "a/b", "..", "x" * 65])
async def test_a_namespace_is_a_name(folder: Path, namespace: str) -> None:
    with pytest.raises(ConfigError, match="namespace"):
        AsyncJSONLEventStorage(folder, namespace=namespace)


async def test_a_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("x")
    with pytest.raises(ConfigError, match="OMNIQ_EVENT_STORAGE_URL"):
        await AsyncJSONLEventStorage(taken).open()


async def test_an_event_that_is_no_json_is_refused_alone(place: AsyncJSONLEventStorage) -> None:
    with pytest.raises(StorageError, match="of t cannot be written"):
        await tell(place, event("t", 1, data={"x": object()}))
    await tell(place, event("t", 2))
    assert await numbers(place) == [2]


async def test_an_event_of_a_newer_version_is_passed_over(
    place: AsyncJSONLEventStorage, folder: Path
) -> None:
    await tell(place, *(event("t", n) for n in range(5)))
    path = folder / names(folder)[0]
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace('"enqueued"', '"teleported"')
    path.write_text("".join(f"{line}\n" for line in lines))
    page = await place.read_events(EventFilter(), limit=3)
    assert [e.n for e in page.events] == [0, 2, 3]
    assert [e.n for e in (await place.read_events(EventFilter(), after=page.cursor)).events] == [4]


# ---- questions


def utc(at: int) -> datetime:
    """As DuckDB answers: without a zone."""
    return datetime.fromtimestamp(at / 1000, UTC).replace(tzinfo=None)


async def test_questions_by_sql(place: AsyncJSONLEventStorage, clock: ManualClock) -> None:
    for n in range(10):
        kind = EventType.ERROR if n % 3 == 0 else EventType.RETRY
        keep = None if n else START + SECOND
        data = {"error": "ValueError", "n": n}
        await tell(place, event("t", n, type=kind, data=data, keep_until=keep, at=START + n))
        clock.advance(3600)
    rows = await place.query(
        "SELECT type, count(*) AS times, min(time) AS first FROM events "
        "WHERE data->>'error' = ? GROUP BY type ORDER BY type",
        ["ValueError"],
    )
    assert rows == [
        {"type": "error", "times": 3, "first": utc(START + 3)},
        {"type": "retry", "times": 6, "first": utc(START + 1)},
    ]


async def test_questions_of_an_empty_place(place: AsyncJSONLEventStorage) -> None:
    assert await place.query("SELECT count(*) AS n FROM events") == [{"n": 0}]
    assert await place.query("SELECT * FROM events") == []


async def test_several_questions_at_once(place: AsyncJSONLEventStorage) -> None:
    await tell(place, *(event("t", n) for n in range(100)))
    asked = [place.query("SELECT sum(n) AS s FROM events WHERE n < ?", [n]) for n in range(20)]
    answers = await asyncio.gather(*asked)
    assert [answer[0]["s"] or 0 for answer in answers] == [sum(range(n)) for n in range(20)]


@pytest.mark.parametrize(
    "sql",
    [
        "DROP VIEW events",
        "CREATE TABLE x (i INT)",
        "COPY (SELECT 1) TO 'x.csv'",
        "INSTALL httpfs",
        "SET threads = 1",
        "SELECT 1; SELECT 2",
        "",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT nonsense FROM events",
        "SELEC 1",
        "SELECT ?",
    ],
)
async def test_a_question_changes_and_reads_nothing_else(
    place: AsyncJSONLEventStorage, sql: str
) -> None:
    await tell(place, event("t"))
    with pytest.raises(StorageError):
        await place.query(sql)
    assert await numbers(place) == [0]


async def test_values_are_values(place: AsyncJSONLEventStorage) -> None:
    odd = "x' OR 1=1; DROP VIEW events; --"
    await tell(place, event(odd, 1), event("t", 2))
    assert await numbers(place, EventFilter(task=odd)) == [1]
    assert await numbers(place, EventFilter(queues=(odd,))) == []
    assert await place.query("SELECT n FROM events WHERE task = ?", [odd]) == [{"n": 1}]


async def test_a_stopped_writer_holds_up_others_for_a_bounded_time(
    place: AsyncJSONLEventStorage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = f"""
        import fcntl, os, signal, sys
        fd = os.open({str(folder / "lock")!r}, os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        print("held", flush=True)
        sys.stdin.read()
    """
    holder = start(program)
    assert holder.stdout is not None and holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    monkeypatch.setattr(days, "_TURN", 0.05)
    with pytest.raises(StorageUnavailable, match="lock"):
        await tell(place, event("t", 1))
    holder.communicate()
    await tell(place, event("t", 1))
    assert await numbers(place) == [1]


def start(program: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
