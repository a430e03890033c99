"""Fixtures that give servers; nothing starts before a test asks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from .nats import Nats, NatsCluster
from .postgres import Postgres, Programs, new_folder
from .s3 import BUCKET, S3
from .valkey import Valkey, ValkeyCluster

NewFolder = Callable[[], Path]


@pytest.fixture(scope="session")
def server_folder() -> Iterator[NewFolder]:
    """Gives names of folders for servers, all gone at the end."""
    base, numbers = new_folder(), count(1)
    yield lambda: base / str(next(numbers))
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_programs(server_folder: NewFolder) -> Programs:
    """PostgreSQL's programs, where an ordinary user may run them."""
    return Programs(server_folder())


# ---- shared by all tests of a run


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest, server_folder: NewFolder) -> Iterator[str]:
    """A PostgreSQL database."""
    if given := os.environ.get("OMNIQ_TEST_POSTGRES_URL"):
        yield given
        return
    programs: Programs = request.getfixturevalue("postgres_programs")
    with Postgres(programs, server_folder()) as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_url(server_folder: NewFolder) -> Iterator[str]:
    """A Redis or Valkey server."""
    if given := os.environ.get("OMNIQ_TEST_REDIS_URL"):
        yield given
        return
    with Valkey(server_folder()) as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_cluster_url(server_folder: NewFolder) -> Iterator[str]:
    """One of three nodes of a Redis or Valkey cluster."""
    if given := os.environ.get("OMNIQ_TEST_REDIS_CLUSTER_URL"):
        yield given
        return
    with ValkeyCluster(server_folder()) as cluster:
        yield cluster.url


@pytest.fixture(scope="session")
def nats_url(server_folder: NewFolder) -> Iterator[str]:
    """A NATS server with JetStream."""
    if given := os.environ.get("OMNIQ_TEST_NATS_URL"):
        yield given
        return
    with Nats(server_folder()) as server:
        yield server.url


@pytest.fixture(scope="session")
def nats_cluster_url(server_folder: NewFolder) -> Iterator[str]:
    """Three NATS servers with JetStream, separated by commas."""
    if given := os.environ.get("OMNIQ_TEST_NATS_CLUSTER_URL"):
        yield given
        return
    with NatsCluster(server_folder()) as cluster:
        yield cluster.url


@pytest.fixture(scope="session")
def s3_server(server_folder: NewFolder) -> Iterator[str]:
    """The endpoint of an S3 server with a bucket `omniq`; key, secret, region: see `s3`."""
    if given := os.environ.get("OMNIQ_TEST_S3_URL"):
        yield given
        return
    with S3(server_folder()) as server:
        server.make_bucket(BUCKET)
        yield server.url


# ---- of one test alone, to be killed, stopped and set up as it likes


@pytest.fixture
def private_postgres(
    postgres_programs: Programs, server_folder: NewFolder
) -> Iterator[Callable[..., Postgres]]:
    """Starts a server of one's own: `private_postgres(max_connections="10")`."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            Postgres(postgres_programs, server_folder(), **settings)
        )


@pytest.fixture
def private_redis(server_folder: NewFolder) -> Iterator[Callable[..., Valkey]]:
    """Starts a server of one's own: `private_redis(appendonly="no")`."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(Valkey(server_folder(), **settings))


@pytest.fixture
def private_nats(server_folder: NewFolder) -> Iterator[Callable[..., Nats]]:
    """Starts a server of one's own: `private_nats("-c", path)`, `private_nats(jetstream=False)`."""
    with ExitStack() as stack:
        yield lambda *options, **rest: stack.enter_context(Nats(server_folder(), *options, **rest))


@pytest.fixture
def private_s3(server_folder: NewFolder) -> Iterator[Callable[[], S3]]:
    """Starts a server of one's own, with a bucket `omniq`."""
    with ExitStack() as stack:

        def start() -> S3:
            server = stack.enter_context(S3(server_folder()))
            server.make_bucket(BUCKET)
            return server

        yield start
