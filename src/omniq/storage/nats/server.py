"""What a server must be able to do."""

from __future__ import annotations

from typing import Final

import nats.errors

from omniq.errors import ConfigError, StorageUnavailable
from omniq.storage.nats.connection import Connection
from omniq.storage.nats.errors import NO_JETSTREAM, Refused

OLDEST: Final = (2, 9)
"""The first with consumers made by name and messages got from any replica."""


async def check_server(connection: Connection) -> None:
    """Refuse a server that is too old, or has no JetStream for this account."""
    info, where = connection.info, connection.where
    version = str(info.get("version", "0"))
    if _parts(version) < OLDEST:
        raise ConfigError(
            f"{where}: NATS {version} is too old, OmniQ needs {OLDEST[0]}.{OLDEST[1]} or newer: "
            "update the server, or change storage_url"
        )
    try:
        await connection.api("INFO")
    except nats.errors.NoRespondersError:
        if info.get("jetstream"):
            raise StorageUnavailable(
                f"{where}: JetStream does not answer; the cluster may be choosing a leader"
            ) from None
        raise _without(where) from None
    except Refused as refused:
        if refused.code == NO_JETSTREAM:
            raise _without(where) from None
        raise


def _without(where: str) -> ConfigError:
    return ConfigError(
        f"{where}: the server has no JetStream, which keeps the tasks: start it with -js (or a "
        "jetstream block in its configuration), or change storage_url (OMNIQ_STORAGE_URL)"
    )


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split(".")[:2] if part.isdecimal())
