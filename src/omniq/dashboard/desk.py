"""What one dashboard holds for as long as its app lives."""

from __future__ import annotations

from collections.abc import Callable, Collection

from omniq.dashboard.assets import VERSION
from omniq.dashboard.auth import Gate
from omniq.dashboard.components.layout import NavEntry
from omniq.dashboard.live import Hub
from omniq.dashboard.reads import Reads, Watched
from omniq.errors import OmniQError

QueueProvider = Callable[[], Watched]


class Desk:
    """The queue's provider, the gate, the live hub and the shared cache."""

    assets = VERSION

    def __init__(
        self,
        queue: QueueProvider,
        gate: Callable[[], Gate],
        *,
        nav: tuple[NavEntry, ...],
        hosts: Collection[str] = (),
    ) -> None:
        self.queue, self.nav, self.hosts = queue, nav, hosts
        self._make_gate = gate
        self._gate: Gate | None = None
        self._reads: Reads | None = None
        self.hub = Hub(queue)

    @property
    def gate(self) -> Gate:
        if self._gate is None:
            self._gate = self._make_gate()
        return self._gate

    @property
    def bundle(self) -> str | None:
        try:
            return self.queue().config.dashboard.bundle
        except OmniQError:  # not started yet: the answer will say so, under the strict policy
            return None

    def reads(self) -> Reads:
        """The cache over the queue as it is now: a host may open another one after a restart."""
        queue = self.queue()
        if self._reads is None or self._reads.queue is not queue:
            self._reads = Reads(queue)
        return self._reads
