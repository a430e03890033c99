"""What one dashboard holds for as long as its app lives."""

from __future__ import annotations

from collections.abc import Callable, Collection

from omniq.dashboard.assets import VERSION
from omniq.dashboard.auth import Auth, Gate, check_auth
from omniq.dashboard.components.layout import NavEntry
from omniq.dashboard.live import Hub
from omniq.dashboard.reads import Reads, Watched
from omniq.dashboard.security import security_headers
from omniq.errors import OmniQError
from omniq.models import OmniQConfig

QueueProvider = Callable[[], Watched]


class Desk:
    """The queue's provider, the gate, the live hub and the shared cache."""

    assets = VERSION

    def __init__(
        self,
        queue: QueueProvider,
        auth: Auth = None,
        *,
        config: Callable[[], OmniQConfig | None] = lambda: None,
        nav: tuple[NavEntry, ...],
        hosts: Collection[str] = (),
    ) -> None:
        check_auth(auth)
        self.queue, self.nav, self.hosts = queue, nav, hosts
        self._config, self._auth = config, auth
        self._gate: Gate | None = None
        self._reads: Reads | None = None
        self.hub = Hub(queue)

    @property
    def config(self) -> OmniQConfig:
        """The dashboard's settings: its own if it was given some, else the queue's."""
        return self._config() or self.queue().config

    @property
    def gate(self) -> Gate:
        if self._gate is None:
            self._gate = Gate(self.config, self._auth)
        return self._gate

    @property
    def bundle(self) -> str | None:
        try:
            return self.config.dashboard.bundle
        except OmniQError:  # not started yet: the answer will say so, under the strict policy
            return None

    def headers(self) -> dict[str, str]:
        """What every answer carries."""
        return security_headers(self.bundle)

    def reads(self) -> Reads:
        """The cache over the queue as it is now: a host may open another one after a restart."""
        queue = self.queue()
        if self._reads is None or self._reads.queue is not queue:
            self._reads = Reads(queue)
        return self._reads
