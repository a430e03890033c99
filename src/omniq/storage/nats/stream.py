"""Streams: made when missing, taken as they are when there, and asked how far they go."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from omniq.errors import ConfigError
from omniq.models.row import Ms
from omniq.storage.nats.connection import Connection
from omniq.storage.nats.errors import NO_ROOM_FOR_COPIES, NO_STREAM, Refused

_LOG: Final = logging.getLogger("omniq.storage")
_THREE: Final = 3
"""Copies that survive the loss of one node."""
_TAKEN: Final = 10058


class State(Struct, frozen=True):
    """How far a stream goes, as its leader says."""

    first: int
    """The oldest number kept; the next one to come where none is."""
    last: int
    """The newest number ever given; 0 in a new stream."""
    now: Ms | None
    """The leader's clock; None: a server older than 2.10."""


async def ask_state(connection: Connection, name: str) -> State:
    """Raises Refused (NO_STREAM) where there is no such stream."""
    return state_of(msgspec.convert(await connection.surely(f"STREAM.INFO.{name}"), Info))


class _Sequences(Struct):
    first_seq: int
    last_seq: int


class Info(Struct):
    """What is needed of the answer to STREAM.INFO."""

    state: _Sequences | None = None
    ts: str | None = None


read_info: Final = msgspec.json.Decoder(Info).decode
"""Made at import: msgspec is not safe where two threads meet a type at the same time."""


def state_of(info: Info) -> State:
    assert info.state is not None
    now = info.ts and round(datetime.fromisoformat(info.ts).timestamp() * 1000)
    return State(first=max(1, info.state.first_seq), last=info.state.last_seq, now=now or None)


async def have(
    connection: Connection, config: dict[str, Any], replicas: int | None
) -> dict[str, Any]:
    """A stream's configuration as it is, after making it if it was missing.

    A stream that is there keeps its own settings, but for more `replicas`.
    """
    name = config["name"]
    while True:
        try:
            found: dict[str, Any] = (await connection.surely(f"STREAM.INFO.{name}"))["config"]
        except Refused as refused:
            if refused.code != NO_STREAM:
                raise
        else:
            break
        try:
            return await _make(connection, config, replicas)
        except Refused as refused:
            if refused.code != _TAKEN:  # made by somebody else meanwhile, and not as we would
                raise
    _check(found, config, connection.where)
    if replicas is not None and replicas > found["num_replicas"]:
        answer = await connection.api(f"STREAM.UPDATE.{name}", {**found, "num_replicas": replicas})
        found = answer["config"]
        _LOG.info("%s: stream %s has %d replicas now", connection.where, name, replicas)
    return found


async def _make(
    connection: Connection, config: dict[str, Any], replicas: int | None
) -> dict[str, Any]:
    what = f"STREAM.CREATE.{config['name']}"
    copies = _THREE if replicas is None and "cluster" in connection.info else replicas or 1
    try:
        answer = await connection.api(what, {**config, "num_replicas": copies})
    except Refused as refused:
        if replicas is not None or copies == 1 or refused.code not in NO_ROOM_FOR_COPIES:
            raise
        answer = await connection.api(what, {**config, "num_replicas": 1})
    made: dict[str, Any] = answer["config"]
    return made


def _check(found: dict[str, Any], wanted: dict[str, Any], where: str) -> None:
    name = wanted["name"]
    for key, why in (
        ("subjects", "has other subjects"),
        ("retention", "does not keep by limits"),
    ):
        if found.get(key) != wanted[key]:
            raise ConfigError(
                f"{where}: stream {name} is not one of OmniQ's: it {why}. Use another "
                "`namespace`, or remove the stream"
            )
    for key in ("sealed", "mirror", "sources", "no_ack"):
        if found.get(key):
            raise ConfigError(f"{where}: stream {name} has {key} set and cannot keep tasks")
