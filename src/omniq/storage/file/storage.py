"""Tasks in files: a directory, a bucket or any filesystem that creates a file only once."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.storage.base import Capabilities
from omniq.storage.durability import Durability, Promise
from omniq.storage.file.finding import find_home
from omniq.storage.file.home import Wish
from omniq.storage.log.port import Log
from omniq.storage.log.storage import AsyncLogStorage


class AsyncFileStorage(AsyncLogStorage):
    """Tasks, results and events as files, for several processes, in a bucket for several hosts.

    `where` is one of

    * a path, or `file:///absolute/path`: a directory of this machine, by a writer of our own.
      Acknowledged tasks survive a crash of the process, with `durability="strict"` a loss of
      power too (every commit then waits for the disk). A missing directory is made, private
      to this user. Not for network filesystems, which show others' files late.
    * a URL of fsspec: `s3://bucket/directory`, `gs://...`, `abfs://container/...`,
      `memory://name` (shared by this process), or an fsspec filesystem, with `path` the
      directory in it. Each needs its driver (s3fs, gcsfs, adlfs).

    `obstore_uri` instead of `where` reaches `s3://`, `gs://`, `az://`, `file:///` and
    `memory:///` through obstore, without further drivers and quicker than fsspec. Its files on
    a local disk are never synced, and a process must not fork once it has used it.

    `storage_options` are the driver's own (obstore: `region`, `endpoint`, `access_key_id`,
    `allow_http`, `timeout`...; fsspec: the filesystem's keywords); they may stand in the URL's
    query too, and credentials may come from the driver's usual environment variables
    (`AWS_ACCESS_KEY_ID`...). The place must create an object only if it is not there: this is
    tried at `open`, and ConfigError raised if an object could be created twice. Filesystems
    that are not known to do so are refused unless `assume_atomic_create=True`.

    A bucket costs per request: one PUT per commit (up to a hundred or more tasks go into one
    while it is busy), one GET per look for others' commits, every 50 ms while there is work
    and down to every 2 s while there is none. An idle process asks for about 43,000 GETs a
    day, an idle worker adds a PUT for each heartbeat; eight busy ones on one bucket make some
    150 PUTs a second at most.
    """

    capabilities = Capabilities(push=False, multiprocess=True, local=False, durability="process")

    def __init__(
        self,
        where: str | PathLike[str] | Any | None = None,
        *,
        namespace: str = "default",
        clock: Clock = SYSTEM_CLOCK,
        durability: Durability = "normal",
        obstore_uri: str | None = None,
        path: str = "",
        storage_options: Mapping[str, Any] | None = None,
        assume_atomic_create: bool = False,
    ) -> None:
        super().__init__(namespace=namespace, clock=clock, durability=durability)
        self._home = find_home(
            Path(where) if isinstance(where, PathLike) else where,
            obstore_uri,
            Wish(
                namespace=namespace,
                strict=durability == "strict",
                options=dict(storage_options or {}),
                path=path,
                assume_atomic_create=assume_atomic_create,
            ),
        )
        self.capabilities = Capabilities(  # type: ignore[misc]
            push=False,
            multiprocess=self._home.multiprocess,
            local=self._home.local,
            durability=self._home.grade,
        )

    def describe(self) -> str:
        named = "" if self.namespace == "default" else f" (namespace {self.namespace})"
        return f"{self._home.place}{named}"

    def exists(self) -> bool:
        return self._home.exists()

    def _log(self) -> Log:
        return self._home.make()

    def _promise(self, log: Log) -> Promise:
        home, strict = self._home, self._durability == "strict"
        undone = (home.instead,) if strict and home.instead else ()
        return Promise(self.describe(), home.grade, home.settings, undone)
