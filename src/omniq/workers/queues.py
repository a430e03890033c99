"""Which queues a worker looks into, and in which order.

Queues take turns, so that none starves; weights give some more turns at the front. A worker
without a list serves every queue there is: whoever first enqueues into a queue leaves a doc
of kind "queue" with its name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from omniq.errors import ConfigError
from omniq.ids import check_name

KIND = "queue"


class QueueNames:
    """The names in turn. `given` None: all that exist, told by `learn`, but those in `without`."""

    def __init__(
        self,
        given: Sequence[str] | Mapping[str, int] | None = None,
        without: Collection[str] = (),
    ) -> None:
        self.all = not given
        self.known = not self.all
        """Whether these are the names: told, or learnt."""
        self.without = frozenset(check_name(name) for name in without)
        if given and self.without:
            raise ConfigError("name the queues to serve or those to leave out, not both")
        weights = given if isinstance(given, Mapping) else dict.fromkeys(given or (), 1)
        self.names: tuple[str, ...] = tuple(check_name(name) for name in weights)
        self._wheel: list[str] = [n for n in self.names for _ in range(max(weights[n], 1))]
        self._at = 0

    def learn(self, names: Sequence[str]) -> None:
        """What exists now; ignored by a worker with a list."""
        if self.all:
            self.known = True
            self.names = tuple(sorted({*self.names, *names} - self.without))
            self._wheel = list(self.names)

    def turn(self) -> Sequence[str]:
        """Every name once, another one in front each time."""
        if len(self.names) < 2:
            return self.names
        self._at = (self._at + 1) % len(self._wheel)
        first = self._wheel[self._at]
        at = self.names.index(first)
        return self.names[at:] + self.names[:at]
