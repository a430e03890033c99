"""NATS JetStream as a storage: the commit log in a stream."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.storage.base import Capabilities
from omniq.storage.durability import Durability, Promise
from omniq.storage.log.port import Log
from omniq.storage.log.storage import AsyncLogStorage
from omniq.storage.nats.address import read_address
from omniq.storage.nats.log import NATSLog


class AsyncNATSStorage(AsyncLogStorage):
    """Tasks, results and events in JetStream, for several processes and hosts.

    Each process holds the tables in memory: up to about ten busy processes and 200,000 live
    tasks in a namespace. `url` names one server, or several of a cluster by commas. `replicas`:
    copies of each stream; None takes three where the cluster has them, else one. `sync` says
    "always" where the servers' `sync_interval` is; they cannot be asked. `creds` and `nkey`
    are files.
    """

    capabilities = Capabilities(push=True, multiprocess=True, local=False, durability="process")

    def __init__(
        self,
        url: str = "nats://localhost:4222",
        *,
        namespace: str = "default",
        clock: Clock = SYSTEM_CLOCK,
        durability: Durability = "normal",
        replicas: int | None = None,
        sync: Literal["always"] | None = None,
        domain: str | None = None,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        creds: str | Path | None = None,
        nkey: str | Path | None = None,
        tls_ca: str | Path | None = None,
        tls_cert: str | Path | None = None,
        tls_key: str | Path | None = None,
        tls_hostname: str | None = None,
    ) -> None:
        super().__init__(namespace=namespace, clock=clock, durability=durability)
        self._address = read_address(
            url,
            {
                "replicas": replicas,
                "sync": sync,
                "domain": domain,
                "user": user,
                "password": password,
                "token": token,
                "creds": creds,
                "nkey": nkey,
                "tls_ca": tls_ca,
                "tls_cert": tls_cert,
                "tls_key": tls_key,
                "tls_hostname": tls_hostname,
            },
        )

    def describe(self) -> str:
        return f"NATS {self._address.shown} ({self.namespace})"

    def _log(self) -> Log:
        return NATSLog(self._address, self.namespace)

    def _promise(self, log: Log) -> Promise:
        assert isinstance(log, NATSLog)
        return msgspec.structs.replace(log.promise, place=self.describe())
