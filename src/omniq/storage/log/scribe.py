"""The thread at which one process writes and reads a log, whoever asks, from whichever loop.

Callers that wait for it at the same time share one commit: their requests are decided one
after the other on one draft and go out as one segment, each with its own answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from omniq._exit import end_connections_at_exit
from omniq.errors import StorageClosed, StorageUnavailable
from omniq.models.row import Ms
from omniq.models.units import Insert, Move, Unit
from omniq.storage.hub import Hub
from omniq.storage.log.cold import Parcel
from omniq.storage.log.engine import LogEngine, TooLarge
from omniq.storage.log.face import COMMIT_UNITS, Request
from omniq.storage.log.port import Lively
from omniq.storage.tables import Tables

T = TypeVar("T")

IDLE: Final = 1.0
"""Seconds between two looks at a log that tells by itself."""
AWAY: Final = 1.0
"""Seconds between two looks at a log that does not answer."""

UNIT_BYTES: Final = 512
"""What a unit comes to without its values; of those, large ones go elsewhere."""

_LOG: Final = logging.getLogger("omniq.storage")


class _Call:
    """Something asked for, and where its answer goes."""

    __slots__ = ("ask", "future")

    def __init__(self, ask: Any, future: asyncio.Future[Any] | None) -> None:
        self.ask = ask
        self.future = future


class Look:
    """A question to the tables."""

    __slots__ = ("ask",)

    def __init__(self, ask: Callable[[Tables, Ms], Any]) -> None:
        self.ask = ask


class Scribe:
    """An engine and its thread. It belongs to the process that made it."""

    def __init__(self, make: Callable[[Hub], LogEngine]) -> None:
        self.pid = os.getpid()
        self.hub = Hub()
        self.users = 0
        self._make = make
        self._engine: LogEngine | None = None
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._told = False
        self._tells = False
        self._lively: Lively | None = None
        self._wake: Callable[[], object] = _nobody
        self._away = False
        self._wait = 0.0
        self._answers: list[tuple[_Call, Any, BaseException | None]] = []
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def join(self) -> None:
        """One more uses it."""
        with self._starting:
            self.users += 1

    def leave(self) -> bool:
        """One less does; whether that was the last."""
        with self._starting:
            self.users -= 1
            return self.users == 0

    async def ask(self, ask: Any) -> Any:
        """Have a Request committed, a Look taken, or a function of the engine called."""
        future = asyncio.get_running_loop().create_future()
        with self._starting:
            self._calls.put(_Call(ask, future))
            self._wake()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="omniq-log", daemon=True)
                self._thread.start()
                _running.add(self)
        return await future

    def tell(self) -> None:
        """Something may have come. From any thread."""
        if not self._told:
            self._told = True
            self._calls.put(None)
            self._wake()

    # -- in the thread --

    def _run(self) -> None:
        while self._engine is not None or not self._rests():
            waiting = self._next()
            asked = tuple(waiting)
            try:
                self._serve(waiting)
            except Exception as error:  # nobody may be left waiting
                for call in asked:  # who was answered before keeps that answer
                    self._answer(call, None, error)
            self._hand_out()
            if self._engine is not None:
                self._tend(self._engine)

    def _rests(self) -> bool:
        """Without an engine the thread ends, unless somebody has just asked for one."""
        with self._starting:
            if not self._calls.empty():
                return False
            _running.discard(self)
            self._thread = None
            return True

    def _tend(self, engine: LogEngine) -> None:
        try:
            engine.tend()
        except Exception:
            _LOG.exception("the log could not be cleared up")

    def _next(self) -> deque[_Call]:
        """What has been asked for; nothing: it is time to look what others wrote."""
        found: deque[_Call] = deque()
        patience = self._patience()
        if self._lively is not None:
            self._rest(self._lively, patience)
            patience = 0
        with contextlib.suppress(Empty):
            call = self._calls.get(timeout=patience)
            while True:
                if call is None:
                    self._told = False
                else:
                    found.append(call)
                call = self._calls.get_nowait()
        return found

    def _rest(self, log: Lively, patience: float | None) -> None:
        end = None if patience is None else time.monotonic() + patience
        while self._calls.empty():
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            try:
                log.rest(left)
            except Exception:  # this thread serves everybody, whatever its log is up to
                _LOG.exception("the log could not be waited for")
                time.sleep(AWAY / 10)

    def _patience(self) -> float | None:
        if self._engine is None or not self.hub.busy:
            return None
        if self._away:
            return AWAY
        return IDLE if self._tells else self._wait

    def _serve(self, waiting: deque[_Call]) -> None:
        if not waiting:
            self._refresh()
            return
        looks: list[_Call] = []
        while waiting:
            if isinstance(waiting[0].ask, Request):
                self._commit(_group(waiting, self.engine.log.manners.segment_bytes // 2))
            elif isinstance(waiting[0].ask, Look):
                looks.append(waiting.popleft())
            else:
                call = waiting.popleft()
                self._try(call, call.ask)
        if looks:
            self._look(looks)
        self._wait = 0.0

    def _refresh(self) -> None:
        engine = self._engine
        if engine is None:
            return
        least, most = engine.log.manners.poll
        try:
            # A log that tells has brought it along; who listens need not wait for more.
            new = engine.refresh(sure=not self._tells)
        except Exception as error:
            if not self._away:
                _LOG.warning("the log cannot be read, looking again every second: %s", error)
            self._away = True
            return
        if self._away:
            self._away = False
            self.hub.alert()
        self._wait = least if new else min(most, max(least, 1.5 * self._wait))

    def _commit(self, calls: list[_Call]) -> None:
        engine = self.engine
        parcel = Parcel(engine.log.manners)
        try:
            answers = _commit_all(engine, [call.ask for call in calls], parcel)
        except StorageUnavailable as error:
            for call in calls:
                self._answer(call, None, error)
        except Exception as error:
            if len(calls) > 1:  # whose fault it is shows when each goes alone
                for call in calls:
                    self._commit([call])
            elif isinstance(error, TooLarge) and calls[0].ask.units:
                self._try(calls[0], lambda: self._commit_small(calls[0].ask))
            else:
                self._answer(calls[0], None, error)
        else:
            for call, answer in zip(calls, answers, strict=True):
                self._try(call, lambda answer=answer: self._unfold(answer))  # type: ignore[misc]

    def _commit_small(self, request: Request[Any]) -> Any:
        """A commit too large for a segment, all of its values beside the log."""
        parcel = Parcel(self.engine.log.manners, least=0)
        return self._unfold(_commit_all(self.engine, [request], parcel)[0])

    def _unfold(self, answer: Any) -> Any:
        answer, whole = self.engine.cold.unfold(answer)
        if not whole:
            _LOG.error("a value kept beside the log is gone, its task gets an empty one")
        return answer

    def _look(self, calls: list[_Call]) -> None:
        engine = self.engine
        try:
            engine.refresh()
        except Exception as error:
            for call in calls:
                self._answer(call, None, error)
            return
        for call in calls:
            self._try(call, lambda ask=call.ask.ask: self._look_once(ask))  # type: ignore[misc]

    def _look_once(self, ask: Callable[[Tables, Ms], Any]) -> Any:
        answer, whole = self.engine.cold.unfold(self.engine.look(ask))
        if whole:
            return answer
        # What was cleared up since belongs to rows that others have removed.
        self.engine.refresh()
        return self._unfold(self.engine.look(ask))

    @property
    def engine(self) -> LogEngine:
        if self._engine is None:
            raise StorageClosed("the log is not open")
        return self._engine

    def open(self) -> LogEngine:
        """In the thread: open the log, if it is not."""
        if self._engine is None:
            engine = self._make(self.hub)
            try:
                engine.open()
                self._tells = engine.log.follow(self.tell)
            except BaseException:
                engine.close()
                raise
            self._engine = engine
            if isinstance(engine.log, Lively):
                self._lively, self._wake = engine.log, engine.log.wake
        return self._engine

    def close(self) -> None:
        """In the thread: close the log and end, if nobody uses it any more."""
        engine = self._engine
        if engine is not None and self.users == 0:
            self._engine = self._lively = None
            self._wake = _nobody
            engine.close()

    # -- answers --

    def _try(self, call: _Call, do: Callable[[], Any]) -> None:
        try:
            answer = do()
        except BaseException as error:
            self._answer(call, None, error)
        else:
            self._answer(call, answer, None)

    def _answer(self, call: _Call, answer: Any, error: BaseException | None) -> None:
        self._answers.append((call, answer, error))

    def _hand_out(self) -> None:
        """Give answers back, each loop its own in one go."""
        answers, self._answers = self._answers, []
        by_loop: dict[asyncio.AbstractEventLoop, list[Any]] = {}
        for answer in answers:
            future = answer[0].future
            if future is not None:
                by_loop.setdefault(future.get_loop(), []).append((future, *answer[1:]))
        for loop, those in by_loop.items():
            with contextlib.suppress(RuntimeError):  # it is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, those)

    def end(self) -> None:
        """Close at the end of the process."""
        self.users = 0
        thread = self._thread
        if thread is not None and self.pid == os.getpid():
            self._calls.put(_Call(self.close, None))
            self._wake()
            thread.join(5)


def _nobody() -> None: ...


def _commit_all(engine: LogEngine, requests: Sequence[Request[Any]], parcel: Parcel) -> list[Any]:
    stowed = [(request.decide, parcel.stow(request.units)) for request in requests]
    who = next((request.who for request in requests if request.who), "")
    return engine.commit(
        lambda draft: [decide(draft, units) for decide, units in stowed], who=who, parcel=parcel
    )


def _group(waiting: deque[_Call], limit: int) -> list[_Call]:
    """The requests at the head that can be one commit; taken out."""
    first = waiting.popleft()
    group = [first]
    if first.ask.alone or not waiting:
        return group
    units, size = len(first.ask.units), _size(first.ask.units)
    claims = {first.ask.claim}
    ids = {_about(unit) for unit in first.ask.units}
    while waiting:
        call = waiting[0]
        request = call.ask
        if not isinstance(request, Request) or request.alone:
            break
        units, size = units + len(request.units), size + _size(request.units)
        if units > COMMIT_UNITS or size > limit:
            break
        if request.claim and request.claim in claims:
            break
        own = [_about(unit) for unit in request.units]
        if not ids.isdisjoint(own):
            break
        ids.update(own)
        claims.add(request.claim)
        group.append(waiting.popleft())
    return group


def _about(unit: Unit) -> str:
    """The row a unit is about."""
    if isinstance(unit, Insert):
        return unit.row.id
    return getattr(unit, "id", "") or str(id(unit))


def _size(units: Sequence[Unit]) -> int:
    """About how many bytes of a segment units come to."""
    size = UNIT_BYTES * len(units)
    for unit in units:
        if type(unit) is Insert:
            size += min(len(unit.row.body), UNIT_BYTES)
        elif type(unit) is Move and unit.result is not None:
            size += min(len(unit.result.value), UNIT_BYTES)
    return size


def _settle(answers: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    for future, answer, error in answers:
        if future.done():  # its caller was cancelled
            continue
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)


_running: weakref.WeakSet[Scribe] = weakref.WeakSet()


@end_connections_at_exit
def _end_all() -> None:
    """A program may end without `close()`."""
    for scribe in list(_running):
        scribe.end()
