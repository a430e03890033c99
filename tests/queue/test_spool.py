"""Records in local files: in order, whole or not at all, and nobody's for good."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from omniq.queue.spool import Spool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "base" / "spool" / "place"


def full(spool: Spool) -> bool:
    return spool.full


def everything(spool: Spool) -> list[bytes]:
    found: list[bytes] = []
    while True:
        records, mark = spool.read()
        if mark is None:
            return found
        found += records
        spool.sent(mark)


def test_what_came_first_goes_first(folder: Path) -> None:
    spool = Spool(folder)
    told = [b"%d" % n * 1000 for n in range(5000)]  # several files
    for record in told:
        spool.append(record)
    assert len(list(folder.iterdir())) > 5
    assert everything(spool) == told
    assert spool.empty
    assert list(folder.iterdir()) == []


def test_nothing_is_made_before_something_is_kept(folder: Path) -> None:
    spool = Spool(folder)
    assert not spool.adopt()
    assert spool.empty
    assert not spool.full
    assert spool.read() == ([], None)
    assert not folder.parent.parent.exists()
    spool.append(b"x")
    assert (folder.parent.parent / ".gitignore").read_text() == "*\n"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
    spool.close()


def test_what_was_read_but_not_sent_is_read_again(folder: Path) -> None:
    spool = Spool(folder)
    for n in range(10):
        spool.append(b"%d" % n)
    first, mark = spool.read(most=30)
    assert first and spool.read(most=30)[0] == first
    assert mark is not None
    spool.sent(mark)
    spool.append(b"10")
    assert first + everything(spool) == [b"%d" % n for n in range(11)]


def test_a_folder_is_full_and_has_room_again(folder: Path) -> None:
    spool, other = Spool(folder, limit=5000), Spool(folder, limit=5000)
    told = 0
    while not full(spool):
        spool.append(bytes(492))
        told += 1
    assert told == 10
    assert not full(other), "it has not looked yet"
    other.append(b"x")
    assert full(other), "the limit is that of the folder"
    everything(spool)
    assert not full(spool)
    assert not full(other)
    other.close()


def test_no_room_at_all(folder: Path) -> None:
    assert Spool(folder, limit=0).full


def test_what_is_left_behind_is_adopted_in_order(folder: Path) -> None:
    one = Spool(folder)
    one.append(b"1")
    one.append(b"2")
    two = Spool(folder)
    two.append(b"3")
    third = Spool(folder)
    assert not third.adopt(), "both live"
    one.close()
    two.close()
    assert third.adopt()
    assert everything(third) == [b"1", b"2", b"3"]


def test_two_who_adopt_do_not_get_the_same(folder: Path) -> None:
    one = Spool(folder)
    one.append(b"1")
    one.close()
    two, three = Spool(folder), Spool(folder)
    assert [two.adopt(), three.adopt()] == [True, False]
    assert everything(two) == [b"1"]


@pytest.mark.parametrize("left", [1, 4, 7, 8, 9, 20])
def test_a_record_that_was_cut_off_is_no_record(folder: Path, left: int) -> None:
    """It was never acknowledged. What stands before it is whole."""
    spool = Spool(folder)
    spool.append(b"whole")
    spool.append(b"a record that is cut off")
    spool.close()
    [path] = folder.iterdir()
    data = path.read_bytes()
    path.write_bytes(data[: 13 + left])
    again = Spool(folder)
    assert again.adopt()
    assert everything(again) == [b"whole"]
    assert list(folder.iterdir()) == []


def test_a_damaged_file_is_kept_aside(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(folder)
    for n in range(3):
        spool.append(b"record %d" % n)
    spool.close()
    [path] = folder.iterdir()
    data = bytearray(path.read_bytes())
    data[16 + 8 + 3] ^= 0xFF
    path.write_bytes(data)
    again = Spool(folder)
    again.adopt()
    assert everything(again) == [b"record 0"]
    [aside] = folder.iterdir()
    assert aside.read_bytes() == bytes(data)
    assert "damaged" in caplog.text


def test_a_full_disk_refuses_and_leaves_what_was_there_whole(folder: Path) -> None:
    """The size of files is limited here, which the system answers as it does a full disk."""
    program = f"""
        import resource, signal
        from pathlib import Path
        from omniq.queue.spool import Spool
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        spool = Spool(Path({str(folder)!r}))
        kept = 0
        try:
            while True:
                spool.append(bytes(99))
                kept += 1
        except OSError:
            pass
        print(kept)
        spool.append(bytes(1))
    """
    done = run(program)
    spool = Spool(folder)
    spool.adopt()
    assert everything(spool) == [bytes(99)] * int(done.stdout) + [bytes(1)]


def test_a_killed_writer_loses_nothing_it_had_kept(folder: Path) -> None:
    program = f"""
        import sys
        from pathlib import Path
        from omniq.queue.spool import Spool
        spool = Spool(Path({str(folder)!r}))
        for n in range(10**9):
            spool.append(b"%d" % n)
            print(n, flush=True)
    """
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    kept = [int(writer.stdout.readline()) for _ in range(300)]
    spool = Spool(folder)
    assert not spool.adopt(), "its writer lives"
    writer.send_signal(signal.SIGKILL)
    kept += [int(line) for line in writer.stdout.read().splitlines()]
    writer.wait()
    writer.stdout.close()
    assert spool.adopt()
    found = [int(record) for record in everything(spool)]
    assert found[: len(kept)] == kept
    assert len(found) <= len(kept) + 1


def test_a_forked_child_does_not_hold_its_parents_files(folder: Path) -> None:
    program = f"""
        import os, sys, time
        from pathlib import Path
        from omniq.queue.spool import Spool
        spool = Spool(Path({str(folder)!r}))
        spool.append(b"of the parent")
        child = os.fork()
        if child == 0:
            os.close(1)
            time.sleep(60)
            os._exit(0)
        print(child, flush=True)
        os._exit(0)
    """
    child = int(run(program).stdout)
    try:
        spool = Spool(folder)
        assert spool.adopt()
        assert everything(spool) == [b"of the parent"]
    finally:
        os.kill(child, signal.SIGKILL)


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=30,
    )
