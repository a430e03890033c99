"""What is looked at when a storage is opened: version, rights, format, and what is promised."""

from __future__ import annotations

from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from omniq.errors import ConfigError, SchemaError
from omniq.storage.durability import Grade, Promise
from omniq.storage.redis.link import Link
from omniq.storage.redis.scripts import FORMAT, SCRIPTS
from omniq.storage.redis.troubles import translate

NEEDS: Final = (6, 2)
"""PXAT, ZMSCORE and exclusive ranges of streams."""
_SETTINGS: Final = ("appendonly", "appendfsync", "maxmemory-policy", "maxmemory", "save")


async def greet(link: Link, meta: str, shown: str, wait_replicas: int) -> Promise:
    """Check the server, load the scripts, mark the namespace; what the server promises."""
    problem: Exception
    try:
        info = _parsed(await link.ask(b"INFO", b"SERVER"))
        version = _check_version(info, shown)
        for script in SCRIPTS.values():
            await link.ask(b"SCRIPT LOAD", script.text)
        await _check_format(link, meta, shown)
        replication = _parsed(await link.ask(b"INFO", b"REPLICATION"))
        settings = await _settings(link)
        await link.ask(b"PUBLISH", f"{meta.removesuffix('meta')}@opened", b"")
    except (RedisError, OSError) as error:
        problem = translate(error, shown)
    else:
        return _promise(shown, version, settings, replication, wait_replicas)
    raise problem


def _parsed(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _check_version(info: dict[str, str], shown: str) -> str:
    if valkey := info.get("valkey_version"):
        return f"Valkey {valkey}"
    version = info.get("redis_version", "")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < NEEDS:
        raise ConfigError(
            f"{shown} is Redis {version or 'of unknown version'}, which is too old: OmniQ needs "
            f"Redis {'.'.join(map(str, NEEDS))} or newer, or Valkey. Upgrade the server, or set "
            "storage_url (OMNIQ_STORAGE_URL) to another one"
        )
    return f"Redis {version}"


async def _check_format(link: Link, meta: str, shown: str) -> None:
    reader = await link.ask(b"HGET", meta, b"min_reader")
    if reader is not None and int(reader) > FORMAT:
        raise SchemaError(
            f"{shown}: the tasks there were written by a newer OmniQ (format {int(reader)}, this "
            f"one reads {FORMAT}). Upgrade omniq-tasks in this process, or use another namespace"
        )
    try:
        await link.ask(b"HSETNX", meta, b"format", FORMAT)
    except ResponseError as error:
        # A server that is full or whose disk fails can still be read, and get room again.
        if type(translate(error, shown)) is ConfigError:
            raise


async def _settings(link: Link) -> dict[str, str]:
    """The server's settings; empty where it does not tell, as managed ones often do not."""
    try:
        settings: dict[str, str] = {}
        for name in _SETTINGS:
            settings |= _pairs(await link.ask(b"CONFIG GET", name))
    except ResponseError:
        return {}
    return settings


def _pairs(answer: list[Any]) -> dict[str, str]:
    words = [word.decode(errors="replace") for word in answer]
    return dict(zip(words[::2], words[1::2], strict=False))


def _promise(
    shown: str,
    version: str,
    settings: dict[str, str],
    replication: dict[str, str],
    wait_replicas: int,
) -> Promise:
    undone: list[str] = []
    grade: Grade = "process"
    told = [version]
    if not settings.get("appendonly"):
        told.append("settings unknown")
        undone.append(
            "the server does not tell its settings (CONFIG GET); see to it that appendonly is "
            "yes and maxmemory-policy noeviction"
        )
    elif settings["appendonly"] != "yes":
        told.append("appendonly=no")
        saves = settings.get("save")
        since = "since its last snapshot" if saves else "there is"
        undone.append(
            f"a crash or restart of the server loses every task {since}; set appendonly yes"
        )
        grade = "none"
    else:
        fsync = settings.get("appendfsync", "everysec")
        told.append(f"appendonly=yes, appendfsync={fsync}")
        if fsync == "always":
            grade = "power"
    policy = settings.get("maxmemory-policy", "")
    if policy and policy != "noeviction":
        what = "evicts keys when memory is full"
        if settings.get("maxmemory", "0") == "0":
            what = "would evict keys if maxmemory were set"
        undone.append(f"maxmemory-policy={policy} {what}; set maxmemory-policy noeviction")
    if wait_replicas:
        told.append(f"wait_replicas={wait_replicas}")
        connected = int(replication.get("connected_slaves", "0"))
        if connected >= wait_replicas:
            grade = "replicated"
        else:
            undone.append(
                f"wait_replicas={wait_replicas}, but {connected} replicas are connected: every "
                "write will be said to be unavailable until there are more"
            )
    return Promise(
        place=shown,
        grade=grade,
        settings=", ".join(told),
        undone=tuple(undone),
        stronger="set appendfsync always, or wait_replicas to at least 1",
    )
