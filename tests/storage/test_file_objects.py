"""Buckets that misbehave: what is caught at open, what is tried again, what is said."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import run
from typing import Any
from uuid import uuid4

import pytest

from omniq.errors import ConfigError, StorageUnavailable
from omniq.storage.log.port import Log

from ..servers.s3 import KEY, SECRET
from .file_places import log_of, obstore_options, s3fs_options
from .s3_between import Between, between, refusal

pytestmark = pytest.mark.newer

ENGINES = ("obstore", "s3fs")


@pytest.fixture
def line(s3_server: str) -> Iterator[Between]:
    with between(s3_server) as line:
        yield line


@pytest.fixture(params=ENGINES)
def log(request: pytest.FixtureRequest, line: Between) -> Log:
    """An unopened log behind the line, by either driver."""
    return log_of(_options(request.param, line.url))


def _options(engine: str, endpoint: str, bucket: str = "omniq") -> dict[str, Any]:
    url = f"s3://{bucket}/{uuid4().hex}"
    if engine == "obstore":
        quick = {"retry_config": {"max_retries": 1}}
        return {"obstore_uri": url, "storage_options": obstore_options(endpoint) | quick}
    quick = {"config_kwargs": {"retries": {"max_attempts": 1}}}
    return {"where": url, "storage_options": s3fs_options(endpoint) | quick}


def _says(error: pytest.ExceptionInfo[Exception], *words: str) -> None:
    """The words are there, and no credentials, wherever somebody may look for the cause."""
    at: BaseException | None = error.value
    text = str(at)
    assert all(word in text for word in words), text
    while at is not None:
        assert SECRET not in f"{at}{at!r}"
        assert KEY not in f"{at}{at!r}".replace("tests/", "")
        at = at.__cause__ or at.__context__


def test_a_bucket_without_conditional_create_is_refused(log: Log, line: Between) -> None:
    line.fault = lambda request: "strip"
    with pytest.raises(ConfigError) as error:
        log.open()
    _says(error, "without conditional create", "storage_url")


def test_every_create_carries_the_condition(log: Log, line: Between) -> None:
    log.open()
    line.seen.clear()
    assert log.put(1, b"x")
    assert log.keep("cp/1", b"x")
    assert [r.conditional for r in line.seen if r.method == "PUT"] == [True, True]


def test_the_probe_leaves_nothing(log: Log) -> None:
    log.open()
    assert log.names("probe/") == []


def test_a_conflict_of_two_creates_is_tried_again(log: Log, line: Between) -> None:
    log.open()
    line.first(2, "PUT", refusal(409, "ConditionalRequestConflict"))
    assert log.put(1, b"mine")
    assert list(log.read_on(1)) == [b"mine"]


def test_conflicts_without_end_are_no_answer(log: Log, line: Between) -> None:
    log.open()
    line.first(10_000, "PUT", refusal(409, "ConditionalRequestConflict"))
    with pytest.raises(StorageUnavailable):
        log.put(1, b"mine")


def test_a_lost_answer_is_no_or_no_answer_and_the_segment_is_there(log: Log, line: Between) -> None:
    log.open()
    line.first(1, "PUT", "lose")
    try:
        created = log.put(1, b"mine")
    except StorageUnavailable:
        created = False
    assert not created
    assert list(log.read_on(1)) == [b"mine"]


def test_throttling_may_go_through_later(log: Log, line: Between) -> None:
    log.open()
    line.first(10_000, "PUT", refusal(503, "SlowDown", "reduce your request rate"))
    with pytest.raises(StorageUnavailable) as error:
        log.put(1, b"x")
    _says(error, "omniq")
    line.fault = lambda request: None
    assert log.put(1, b"x")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_bucket(engine: str, s3_server: str) -> None:
    log = log_of(_options(engine, s3_server, bucket="nowhere-at-all"))
    with pytest.raises(ConfigError) as error:
        log.open()
    _says(error, "no such bucket", "storage_url", "nowhere-at-all")


@pytest.mark.parametrize(
    ("code", "status"),
    [("InvalidAccessKeyId", 403), ("SignatureDoesNotMatch", 403), ("AccessDenied", 403)],
)
def test_wrong_keys(log: Log, line: Between, code: str, status: int) -> None:
    line.fault = lambda request: refusal(status, code, f"the key {KEY} with {SECRET}")
    with pytest.raises(ConfigError) as error:
        log.open()
    _says(error, "storage_options")


@pytest.mark.parametrize("engine", ENGINES)
def test_no_server_at_all(engine: str) -> None:
    log = log_of(_options(engine, "http://127.0.0.1:9"))
    with pytest.raises(StorageUnavailable) as error:
        log.open()
    _says(error, "s3://omniq/")


def test_unknown_option() -> None:
    options = _options("obstore", "http://127.0.0.1:9")
    options["storage_options"]["regoin"] = "x"
    with pytest.raises(ConfigError) as error:
        log_of(options).open()
    _says(error, "regoin", "storage_options")


def test_options_in_the_url(s3_server: str) -> None:
    words = "&".join(f"{k}={v}" for k, v in obstore_options(s3_server).items())
    log = log_of({"obstore_uri": f"s3://omniq/{uuid4().hex}?{words.replace('True', 'true')}"})
    log.open()
    assert log.put(1, b"x")


def test_an_endpoint_without_tls_has_to_be_allowed(s3_server: str) -> None:
    options = _options("obstore", s3_server)
    del options["storage_options"]["allow_http"]
    with pytest.raises(ConfigError) as error:
        log_of(options).open()
    _says(error, "allow_http")


def test_the_clock_is_this_machines_as_long_as_it_fits(log: Log) -> None:
    log.open()
    before = time.time_ns() // 1_000_000
    now = log.now()
    assert now is not None
    assert before <= now <= time.time_ns() // 1_000_000


def test_the_clock_of_the_bucket_counts(log: Log, line: Between) -> None:
    line.later = 7200
    log.open()
    begun = time.time_ns() // 1_000_000
    now = log.now()
    ended = time.time_ns() // 1_000_000
    assert now is not None
    # Its stamp is of whole seconds, of some moment while it was asked.
    assert begun - 1000 <= now - 7_200_000 <= ended + 1000 + (ended - begun) // 2


@pytest.mark.parametrize("uri", ["memory:///fork", "file://{folder}"])
def test_a_forked_child_is_told_and_does_not_hang(uri: str, tmp_path: Path) -> None:
    program = f"""
import os, sys
from tests.storage.file_places import log_of
log = log_of({{"obstore_uri": {uri.format(folder=tmp_path)!r}}})
log.open()
log.put(1, b"x")
pid = os.fork()
if not pid:
    try:
        log_of({{"obstore_uri": {uri.format(folder=tmp_path)!r}}}).open()
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""
    done = run([sys.executable, "-c", program], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("StorageError"), done.stdout
    assert "spawn" in done.stdout


def test_somebody_elses_use_of_obstore_before_the_fork_counts(tmp_path: Path) -> None:
    program = f"""
import obstore, os
from obstore.store import MemoryStore
from tests.storage.file_places import log_of
obstore.put(MemoryStore(), "x", b"x")
pid = os.fork()
if not pid:
    try:
        log_of({{"obstore_uri": "file://{tmp_path}"}}).open()
        print("it works", flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""
    done = run([sys.executable, "-c", program], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert "spawn" in done.stdout or done.stdout == "it works\n", done.stdout


def test_opened_after_the_fork_it_works(tmp_path: Path) -> None:
    program = f"""
import os
from tests.storage.file_places import log_of
log = log_of({{"obstore_uri": "file://{tmp_path}/o"}})
pid = os.fork()
if not pid:
    log.open()
    assert log.put(1, b"x")
    os._exit(0)
sys_exit = os.waitpid(pid, 0)[1]
assert sys_exit == 0
log.open()
assert list(log.read_on(1)) == [b"x"]
"""
    done = run([sys.executable, "-c", program], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
