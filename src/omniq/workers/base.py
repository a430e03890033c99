"""What a lane is: a number of slots in which tasks of one kind run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from omniq.models.outcome import Outcome
from omniq.models.row import TaskRow
from omniq.models.task import WorkerKind
from omniq.queue.engine import Loaded
from omniq.workers.run import Reason, Run

Done = Callable[[Run, Outcome], None]
"""Called on the event loop's thread when a run has ended."""


class Codec(Protocol):
    """How a lane turns a row into a call and a value into bytes. May be used in any thread."""

    def load(self, row: TaskRow, payload: bytes) -> Loaded:
        """Decode the call; raises FunctionNotFound, SerializationError."""
        ...

    def dump(self, row: TaskRow, value: Any) -> bytes:
        """Encode the result; raises NotSerializable, PayloadTooLarge."""
        ...


class Lane(ABC):
    """Runs what it is given and tells each outcome. Knows no storage and no retry rule."""

    kind: ClassVar[WorkerKind]

    def __init__(self, slots: int, codec: Codec) -> None:
        self.slots, self.codec = slots, codec
        self.busy = 0
        """Slots in use, counting threads that ignore their timeout."""
        self._done: Done = _nobody

    @property
    def free(self) -> int:
        return max(self.slots - self.busy, 0)

    def start(self, done: Done) -> None:
        """Get ready on the running loop; `done` is told each outcome."""
        self._done = done

    @abstractmethod
    def submit(self, run: Run) -> None:
        """Start a run; takes a slot until the run has really ended."""

    @abstractmethod
    def interrupt(self, run: Run, reason: Reason) -> None:
        """Stop a run as far as its kind can be stopped."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of threads or processes; runs were settled before."""


def _nobody(run: Run, outcome: Outcome) -> None:
    raise RuntimeError("a lane was given work before it was started")
