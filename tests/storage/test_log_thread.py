"""The log's thread serves everybody: it may neither end nor spin nor leave anybody waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from omniq.errors import SchemaError, StorageClosed, StorageError
from omniq.models import Applied
from omniq.storage.log import scribe
from omniq.storage.tables.segment import FORMAT
from tests.conformance import kit
from tests.waiting import until

from .logs import DictLog, DictPlace, DictStorage
from .test_log_storage import Gate

pytestmark = pytest.mark.asyncio


@pytest.fixture
def place() -> DictPlace:
    return DictPlace()


async def test_nobody_is_left_waiting_when_the_program_ends(place: DictPlace) -> None:
    """A look and a commit that were asked for when the log had just been closed."""
    storage = DictStorage(place, log=DictLog(place))
    await storage.open()
    assert storage.dict_log is not None
    gate = Gate(storage.dict_log)
    first = asyncio.ensure_future(storage.apply([kit.insert()]))
    await asyncio.to_thread(gate.reached.wait, 60)
    end = threading.Thread(target=storage._scribe.end)
    end.start()
    # It waits for the thread, once it has asked it to close.
    await until(lambda: not storage._scribe._calls.empty())
    late = [
        asyncio.ensure_future(each)
        for each in (storage.get_tasks(["x"]), storage.apply([kit.insert()]))
    ]
    await asyncio.sleep(0)
    gate.opened.set()
    assert (await first).outcome == [Applied.APPLIED]
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*late, return_exceptions=True)
    assert [type(answer) for answer in answers] == [StorageClosed, StorageClosed]
    await asyncio.to_thread(end.join)


async def test_what_no_version_could_read_is_told_once_and_not_looked_at_without_rest(
    place: DictPlace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scribe, "AWAY", 0.05)
    log = DictLog(place)
    async with DictStorage(place, log=log) as storage, storage.listen(["queue:z"]):
        tried: list[float] = []
        enough = threading.Event()

        def broken(number: int) -> Any:
            tried.append(time.monotonic())
            if len(tried) == 3:
                enough.set()
            raise ZeroDivisionError

        monkeypatch.setattr(log, "read_on", broken)
        await asyncio.to_thread(enough.wait, 60)
        monkeypatch.undo()
    assert min(later - before for before, later in pairwise(tried)) > 0.045
    assert caplog.text.count("cannot be read") == 1


async def test_a_newer_version_s_entry_of_another_shape_is_told_as_such(place: DictPlace) -> None:
    place.segments[1] = msgspec.msgpack.encode({"least": FORMAT + 1, "ins": "of another shape"})
    with pytest.raises(SchemaError, match="upgrade OmniQ"):
        await DictStorage(place).open()
    place.segments[1] = msgspec.msgpack.encode({"ins": "damaged"})
    with pytest.raises(StorageError, match="cannot be read"):
        await DictStorage(place).open()
