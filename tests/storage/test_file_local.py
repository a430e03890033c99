"""The writer of local directories: crashes, full disks, power cuts, and what it refuses."""

from __future__ import annotations

import logging
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, Popen, run

import pytest

from omniq.errors import ConfigError, OmniQError, StorageError, StorageUnavailable
from omniq.storage.file import AsyncFileStorage
from omniq.storage.file.local import LocalLog

NOBODY = 65534


@pytest.fixture
def log(tmp_path: Path) -> LocalLog:
    return opened(tmp_path / "tasks")


def opened(base: Path, *, strict: bool = False) -> LocalLog:
    log = LocalLog(base, "default", strict=strict)
    log.open()
    return log


# ---- the directory


def test_it_is_private_and_ignores_itself(log: LocalLog) -> None:
    assert log.put(1, b"x")
    assert (log.base / ".gitignore").read_text() == "*\n"
    for where, folders, files in os.walk(log.base):
        for folder in folders:
            assert stat.S_IMODE(Path(where, folder).stat().st_mode) == 0o700
        for file in files:
            if file != ".gitignore":
                assert stat.S_IMODE(Path(where, file).stat().st_mode) == 0o600


def test_nothing_is_touched_before_it_is_opened(tmp_path: Path) -> None:
    storage = AsyncFileStorage(tmp_path / "tasks")
    assert not storage.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_was_there_keeps_its_own_gitignore(tmp_path: Path) -> None:
    opened(tmp_path)
    assert not (tmp_path / ".gitignore").exists()


def test_a_segment_leaves_nothing_beside_it(log: LocalLog) -> None:
    for number in range(1, 200):
        assert log.put(number, b"x")
        assert not log.put(number, b"y")
    assert list((log.base / "default" / "tmp").iterdir()) == []


def test_what_killed_writers_left_is_swept(log: LocalLog) -> None:
    tmp = log.base / "default" / "tmp"
    young, old, folder = tmp / "1-young", tmp / "1-old", tmp / "1-cut"
    young.write_bytes(b"half of a seg")
    old.write_bytes(b"half of a seg")
    folder.mkdir()
    (folder / "00000000000000000001").write_bytes(b"x")
    for path in (old, folder):
        os.utime(path, (1, 1))
    log.open()
    assert [path.name for path in tmp.iterdir()] == ["1-young"]


def test_a_number_that_was_cut_cannot_come_back(log: LocalLog) -> None:
    late = opened(log.base)
    for number in range(1, 600):
        assert log.put(number, b"x")
    log.cut(599)
    assert log.first() == 512
    for number in (1, 255, 256, 511):
        assert not late.put(number, b"from a process that was stopped for long")
    assert late.put(600, b"x")
    assert not (log.base / "default/log/0000000000000000").exists()


# ---- the grades


def test_strict_has_file_and_directory_on_the_disk_before_it_answers(
    tmp_path: Path, synced: Callable[[], list[str]]
) -> None:
    log = opened(tmp_path / "tasks", strict=True)
    synced()
    assert log.put(1, b"x")
    assert synced() == ["file", "folder"]
    for number in range(2, 256):
        log.put(number, b"x")
    synced()
    assert log.put(256, b"x")
    assert synced() == ["folder", "file", "folder"]  # the directory before this one as well


def test_normal_waits_for_the_disk_with_checkpoints_only(
    tmp_path: Path, synced: Callable[[], list[str]]
) -> None:
    log = opened(tmp_path / "tasks")
    synced()
    assert log.put(1, b"x")
    assert log.keep("pack/1", b"x")
    assert synced() == []
    assert log.keep(f"cp/{1:020d}", b"x")  # with the segment it goes with
    assert synced() == ["file", "folder", "folder", "file", "folder"]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What was synced since it was last asked; it is really done."""
    seen: list[str] = []
    sync = os.fsync

    def noted(fd: int) -> None:
        sync(fd)
        seen.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")

    monkeypatch.setattr(os, "fsync", noted)

    def new() -> list[str]:
        found = seen.copy()
        seen.clear()
        return found

    return new


def test_the_end_a_power_cut_tore_is_put_aside(
    log: LocalLog, caplog: pytest.LogCaptureFixture
) -> None:
    files = _written(log, 300)
    files[290].write_bytes(b"")  # its name reached the disk, its bytes did not
    files[295].unlink()
    _before_this_boot(files)
    with caplog.at_level(logging.WARNING, "omniq.storage"):
        again = opened(log.base)
    assert "segment 290" in caplog.text
    assert "strict" in caplog.text
    assert list(again.read_on(289)) == [b"segment 289"]
    assert again.put(290, b"and on")
    lost = sorted(path.name for path in (log.base / "default/lost").rglob("*") if path.is_file())
    assert lost == [f"{n:020d}" for n in (290, 291, 292, 293, 294, 296, 297, 298, 299, 300)]


def test_a_missing_directory_of_segments_is_the_end(log: LocalLog) -> None:
    files = _written(log, 600)
    for number in range(256, 512):
        files.pop(number).unlink()
    _before_this_boot(files)
    again = opened(log.base)
    assert list(again.read_on(255)) == [b"segment 255"]
    assert again.put(256, b"and on")
    assert list(again.read_on(257)) == []


def test_holes_before_a_checkpoint_do_not_matter(log: LocalLog) -> None:
    files = _written(log, 300)
    log.keep(f"cp/{290:020d}", b"a checkpoint")
    for number in (100, 280, 295):
        files.pop(number).unlink()
    _before_this_boot(files)
    again = opened(log.base)
    assert list(again.read_on(290)) == [b"segment %d" % n for n in range(290, 295)]
    assert again.put(295, b"and on")


def test_a_checkpoint_without_its_segment_is_no_beginning(log: LocalLog) -> None:
    files = _written(log, 300)
    log.keep(f"cp/{270:020d}", b"a checkpoint")
    log.keep(f"cp/{290:020d}", b"a checkpoint")
    files[290].write_bytes(b"torn")
    _before_this_boot(files)
    again = opened(log.base)
    assert len(again.read_on(270)) == 20
    assert again.put(290, b"and on")


def test_directories_of_numbers_to_come_are_made_again(log: LocalLog) -> None:
    files = _written(log, 300)
    for number in range(256, 301):
        files.pop(number).unlink()
    (log.base / "default/log/0000000000000001").rmdir()
    _before_this_boot(files)
    again = opened(log.base)
    for number in range(256, 600):
        assert again.put(number, b"x")


def test_a_whole_log_is_left_alone(log: LocalLog) -> None:
    files = _written(log, 600)
    log.cut(520)
    _before_this_boot({n: file for n, file in files.items() if n >= 512})
    again = opened(log.base)
    assert again.first() == 512
    assert not (log.base / "default/lost").exists()


def test_damage_without_a_power_cut_is_not_repaired_but_told(log: LocalLog) -> None:
    files = _written(log, 10)
    files[5].write_bytes(b"not what was written")
    again = opened(log.base)
    assert len(again.read_on(1)) == 4
    with pytest.raises(StorageError, match=r"segment 5 .* damaged"):
        again.read_on(5)


def _written(log: LocalLog, count: int) -> dict[int, Path]:
    for number in range(1, count + 1):
        assert log.put(number, b"segment %d" % number)
    return {int(path.name): path for path in (log.base / "default/log").glob("*/*")}


def _before_this_boot(files: dict[int, Path]) -> None:
    for file in files.values():
        if file.exists():
            os.utime(file, (1_000_000, 1_000_000))


# ---- crashes and other processes

WRITER = """
import sys
from pathlib import Path
from omniq.storage.file.local import LocalLog
log = LocalLog(Path(sys.argv[1]), "default")
log.open()
number = 1
while True:
    while found := log.read_on(number):
        number += len(found)
    if log.put(number, b"%d " % number * 2000):
        print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_it_acknowledged(log: LocalLog) -> None:
    for _ in range(3):
        with Popen([sys.executable, "-c", WRITER, str(log.base)], stdout=PIPE, text=True) as child:
            assert child.stdout is not None
            told = [int(child.stdout.readline()) for _ in range(50)]
            child.kill()
            told += [int(line) for line in child.stdout if line.endswith("\n")]
        number, kept = 1, list[bytes]()
        while found := log.read_on(number):
            kept += found
            number += len(found)
        assert set(told) <= set(range(1, number))
        assert kept == [b"%d " % n * 2000 for n in range(1, number)]


def test_a_stopped_holder_of_the_turn_stops_nobody(log: LocalLog) -> None:
    program = """
import sys, signal, os
from pathlib import Path
from omniq.storage.file.local import LocalLog
log = LocalLog(Path(sys.argv[1]), "default")
log.open()
with log.turn():
    print("mine", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""
    with Popen([sys.executable, "-c", program, str(log.base)], stdout=PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "mine\n"
        os.waitpid(child.pid, os.WUNTRACED)  # a SIGCONT before its stop would be lost
        with log.turn():
            assert log.put(1, b"x")
        child.send_signal(signal.SIGCONT)
        assert child.wait() == 0


def test_it_goes_on_after_a_fork(log: LocalLog) -> None:
    assert log.put(1, b"x")
    child = os.fork()
    if not child:
        os._exit(0 if log.put(2, b"of the child") else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert list(log.read_on(2)) == [b"of the child"]


# ---- what it refuses


@pytest.mark.parametrize("word", ["up/../and/down", "../tasks"])
def test_ways_up_are_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=r"'\.\.'.*base_dir"):
        AsyncFileStorage(word)


@pytest.mark.parametrize("word", ["a\nb", "a\x00b", "a\x7fb", "file:///a\x1bb"])
def test_control_characters_are_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="control characters"):
        AsyncFileStorage(word)


@pytest.mark.parametrize("name", ["..", "a/b", "", "a b", "a\n", "x" * 65])
def test_namespaces_are_plain_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(OmniQError, match="namespace"):
        AsyncFileStorage(tmp_path, namespace=name)


def test_a_host_is_no_directory() -> None:
    with pytest.raises(ConfigError, match="three slashes"):
        AsyncFileStorage("file://server/tasks")


def test_two_places_or_none() -> None:
    with pytest.raises(ConfigError, match="one place"):
        AsyncFileStorage()
    with pytest.raises(ConfigError, match="one place"):
        AsyncFileStorage("tasks", obstore_uri="memory:///x")


def test_unknown_schemes_name_their_neighbours() -> None:
    with pytest.raises(ConfigError, match="did you mean 's3'"):
        AsyncFileStorage(obstore_uri="s33://bucket/tasks")


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "tasks").write_text("x")
    with pytest.raises(ConfigError, match=r"storage_url.*base_dir"):
        opened(tmp_path / "tasks")
    with pytest.raises(ConfigError, match="base_dir"):
        opened(tmp_path / "tasks" / "below")


def test_a_namespace_that_leads_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "default").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="leads elsewhere"):
        opened(tmp_path / "tasks")


def test_a_segment_that_is_a_link_is_not_followed(log: LocalLog) -> None:
    secret = log.base / "secret"
    secret.write_text("not a segment")
    (log.base / "default/log/0000000000000000/00000000000000000001").symlink_to(secret)
    with pytest.raises(OmniQError):
        log.read_on(1)


@pytest.mark.parametrize("made", [True, False])
def test_a_directory_that_cannot_be_written(tmp_path: Path, made: bool) -> None:
    if made:
        opened(tmp_path / "tasks")
    tmp_path.chmod(0o755)
    for where, _, _ in os.walk(tmp_path):
        Path(where).chmod(0o555)
    try:
        user = NOBODY if os.geteuid() == 0 else None  # root may write everywhere
        told = _as_user(user, tmp_path / "tasks")
    finally:
        for where, _, _ in os.walk(tmp_path):
            Path(where).chmod(0o755)
    assert told.startswith("ConfigError")
    assert "base_dir" in told
    assert "cannot be written by this user" in told


def _as_user(user: int | None, base: Path) -> str:
    """What opening says, in a forked child of that user."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            if user is not None:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            try:
                opened(base).put(1, b"x")
                told = "nothing"
            except OmniQError as error:
                told = f"{type(error).__name__} {error}"
            os.write(writer, told.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answers:
        told = answers.read()
    os.waitpid(child, 0)
    return told


def test_a_full_disk_loses_nothing_and_goes_on(tmp_path: Path) -> None:
    # The size of a file is limited as a disk's room would be: the write stops in its middle.
    program = """
import resource, sys
from pathlib import Path
from omniq.errors import StorageUnavailable
from omniq.storage.file.local import LocalLog
log = LocalLog(Path(sys.argv[1]), "default")
log.open()
assert log.put(1, b"small")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    log.put(2, b"x" * 10_000)
except StorageUnavailable as error:
    print(error)
assert list(log.read_on(1)) == [b"small"]
assert not list(Path(sys.argv[1], "default/tmp").iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert log.put(2, b"x" * 10_000)
assert list(log.read_on(2)) == [b"x" * 10_000]
"""
    done = run(
        [sys.executable, "-c", program, str(tmp_path / "tasks")],
        capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no space left" in done.stdout
    assert "acknowledged is safe" in done.stdout


def test_a_directory_that_vanishes(log: LocalLog) -> None:
    assert log.put(1, b"x")
    log.base.rename(log.base.with_name("elsewhere"))
    with pytest.raises(StorageUnavailable, match="gone"):
        log.put(2, b"x")
    log.base.with_name("elsewhere").rename(log.base)
    assert log.put(2, b"x")


def test_time_is_the_machines(log: LocalLog) -> None:
    assert log.now() is None


# ---- copies and what they lack


def test_a_log_that_was_set_back_to_a_copy_does_not_go_on_where_it_was(log: LocalLog) -> None:
    files = _written(log, 10)
    for number in range(7, 11):
        files[number].unlink()  # a copy of earlier, put there while this process went on
    assert not log.put(11, b"after a hole")
    assert not list(log.read_on(7))
    assert log.put(7, b"and on")


def test_a_hole_in_a_copy_is_put_aside_with_what_follows(
    log: LocalLog, caplog: pytest.LogCaptureFixture
) -> None:
    """A listing made while tasks are written may have a later file and not the one before."""
    files = _written(log, 300)
    files[299].unlink()
    with caplog.at_level(logging.WARNING, "omniq.storage"):
        again = opened(log.base)
    assert "segment 299" in caplog.text
    assert again.put(299, b"and on")
    assert not list(again.read_on(300))


def test_a_copy_without_empty_directories_goes_on(log: LocalLog) -> None:
    _written(log, 200)
    (log.base / "default/log/0000000000000001").rmdir()
    for number in range(201, 600):
        assert log.put(number, b"x")


def test_who_was_stopped_does_not_bring_a_directory_back(log: LocalLog) -> None:
    late = opened(log.base)
    _written(log, 600)
    log.cut(599)
    for number in (128, 256, 384):  # where directories are made
        assert not late.put(number, b"from a process that was stopped for long")
    assert [path.name for path in (log.base / "default/log").iterdir()] == [f"{2:016d}"]
