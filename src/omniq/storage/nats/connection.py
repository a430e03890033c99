"""One connection to a NATS cluster: asks, is told, and comes back after every loss."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

import msgspec
import nats
import nats.errors
from nats.aio.client import Client, Server
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from omniq.errors import ConfigError, OmniQError, StorageUnavailable
from omniq.storage.nats.address import Address
from omniq.storage.nats.errors import Denied, Lost, denial, explain, refusal

ANSWER_SECONDS: Final = 3.0
"""How long a request may take; a cluster that chooses a new leader answers nobody meanwhile."""
THERE_SECONDS: Final = 1.0
"""The last of them begin when this process sees that the others are over: it may have stood still
meanwhile, and an answer lie there unread."""
BACK_SECONDS: Final = 3.0
"""How long calls wait for a connection that was just lost to come back."""
_LATER_SECONDS: Final = 0.7
"""How long they wait when it has been away for longer: for one more try."""
FIRST_SECONDS: Final = 5.0
"""How long the first connection may take."""
_PING_SECONDS: Final = 5
_WAITS: Final = (0.02, 0.5)
"""Seconds between two tries to reconnect: at first, and at most."""

_NOBODY: Final = "503"

Headers = dict[str, str] | None
Done = Callable[[Msg | Exception], None]

_LOG: Final = logging.getLogger("omniq.storage")


class Connection:
    """To be used on its own loop only. `inbox` begins the subjects of its replies."""

    def __init__(self, address: Address, *, name: str, inbox: str) -> None:
        self.where = f"NATS {address.shown}"
        self.inbox = inbox
        self._address = address
        self._name = name
        self._api = f"$JS.{address.domain}.API" if address.domain else "$JS.API"
        self._client: Client | None = None
        self._up = asyncio.Event()
        self._connecting = asyncio.Lock()
        self._ending = False
        self._failed: Exception | None = None
        self._tokens = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._back: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._chores: set[asyncio.Task[None]] = set()
        self._tries = 0
        self._lost_at = 0.0

    @property
    def is_up(self) -> bool:
        return self._up.is_set()

    @property
    def info(self) -> Mapping[str, Any]:
        """What the server said of itself when it let us in."""
        # The driver offers a few fields of it only.
        return self._client._server_info if self._client is not None else {}

    def when_back(self, do: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run this after every reconnection. It raises nothing."""
        self._back.append(do)

    async def open(self) -> None:
        """Connect, or say why not: this once a server that is not there is an error."""
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                await self._connect()
        except (TimeoutError, nats.errors.Error, OSError) as error:
            said = self._failed or error
            if isinstance(told := explain(said, self.where), ConfigError):
                raise told from None
            why = "no answer in time" if isinstance(said, TimeoutError) else _plainly(said)
            raise StorageUnavailable(
                f"{self.where} cannot be reached as a NATS server ({why}): is the address in "
                "storage_url (OMNIQ_STORAGE_URL) right, and the server running?"
            ) from None
        except OmniQError:
            raise
        except Exception as error:  # of the library that reads keys: whatever it finds there
            raise ConfigError(
                f"{self.where}: the key in the file of creds or nkey cannot be used ({type(error).__name__})"
            ) from None

    async def close(self) -> None:
        self._ending = True
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        for token in tuple(self._waiting):
            self._finish(token, Lost("the connection was closed"))

    def post(self, subject: str, payload: bytes, headers: Headers, done: Done) -> None:
        """Send a request; `done` is called on the loop with the answer, or with what happened.

        That is Lost when the connection ended meanwhile, Denied or TimeoutError: in all three
        the request may have been heard.
        """
        token = next(self._tokens)
        self._waiting[token] = _Waiting(subject, done)
        self._keep(self._publish(token, subject, payload, headers))

    async def ask(self, subject: str, payload: bytes = b"", headers: Headers = None) -> Msg:
        """The same to be awaited."""
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        def done(what: Msg | Exception) -> None:
            if answer.done():  # whoever wanted it has been cancelled
                return
            if isinstance(what, Exception):
                answer.set_exception(what)
            else:
                answer.set_result(what)

        self.post(subject, payload, headers, done)
        return await answer

    async def api(self, what: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask JetStream's API; raises Refused for an error in the answer."""
        payload = b"" if body is None else msgspec.json.encode(body)
        message = await self.ask(self.api_subject(what), payload)
        answer: dict[str, Any] = msgspec.json.decode(message.data)
        if (refused := refusal(answer)) is not None:
            raise refused
        return answer

    async def surely(self, what: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The same for what may be asked twice: again after a loss, for some seconds."""
        end = _now() + BACK_SECONDS
        while True:
            try:
                return await self.api(what, body)
            except (Lost, TimeoutError, nats.errors.Error) as error:
                if _now() >= end:
                    raise
                if isinstance(error, nats.errors.NoRespondersError):
                    await asyncio.sleep(0.05)  # a leader is being chosen

    def api_subject(self, what: str) -> str:
        return f"{self._api}.{what}"

    async def tell_api(self, what: str) -> None:
        """Ask JetStream's API for something and do not wait."""
        await self.send(self.api_subject(what))

    async def direct(self, stream: str, number: int) -> Msg:
        """A message by its number from any replica, which may not have it yet."""
        what = self.api_subject(f"DIRECT.GET.{stream}")
        return await self.ask(what, msgspec.json.encode({"seq": number}))

    async def send(self, subject: str, payload: bytes = b"") -> None:
        """Publish and do not wait."""
        if self._client is not None and self._client.is_connected:
            with contextlib.suppress(nats.errors.Error):
                await self._client.publish(subject, payload)

    async def subscribe(self, subject: str, tell: Callable[[Msg], Awaitable[None]]) -> Subscription:
        client = await self._live()
        return await client.subscribe(subject, cb=tell, pending_bytes_limit=0)

    # -- staying connected

    async def _live(self) -> Client:
        """The client when it is connected; StorageUnavailable if that takes too long."""
        client = self._client
        if client is not None and client.is_connected:
            return client
        try:
            async with asyncio.timeout_at(
                max(self._lost_at + BACK_SECONDS, _now() + _LATER_SECONDS)
            ):
                while True:
                    if self._ending:
                        raise Lost("the connection is closed")
                    client = self._client
                    if client is None or client.is_closed:
                        await self._connect()
                    elif client.is_connected:
                        return client
                    else:
                        await self._up.wait()
                        await asyncio.sleep(0)
        except TimeoutError:
            why = f" ({_plainly(self._failed)})" if self._failed else ""
            raise StorageUnavailable(f"{self.where} cannot be reached{why}") from None

    async def _connect(self) -> None:
        async with self._connecting:
            if self._client is not None and not self._client.is_closed:
                return
            options = self._address.connecting()
            client = Client()
            try:
                await client.connect(
                    **options,
                    name=self._name,
                    inbox_prefix=self.inbox,
                    error_cb=self._heard_error,
                    disconnected_cb=self._went_down,
                    reconnected_cb=self._came_back,
                    closed_cb=self._went_down,
                    max_reconnect_attempts=2,
                    reconnect_time_wait=0.1,  # type: ignore[arg-type]  # it only sleeps so long
                    connect_timeout=2,
                    ping_interval=_PING_SECONDS,
                    # What is sent while it is away would arrive long after its caller gave up.
                    pending_size=0,
                    reconnect_to_server_handler=self._next_server,
                )
                await client.subscribe(f"{self.inbox}.*", cb=self._hear_reply)
            except BaseException:
                with contextlib.suppress(Exception):  # it can be too new to be closed
                    await client.close()
                raise
            # From here on it tries for ever.
            client.options["max_reconnect_attempts"] = -1
            self._client = client
            self._failed = None
            self._up.set()

    def _next_server(self, pool: list[Server], info: dict[str, Any]) -> tuple[Server | None, float]:
        least, most = _WAITS
        # The list is shuffled: any of those tried least.
        fewest = min(pool, key=lambda server: server.reconnects)
        self._tries += 1
        rounds = max(0, self._tries - len(pool))
        wait = 0.0 if self._tries == 1 else min(most, least * 2 ** min(rounds, 10))
        return fewest, wait * (0.5 + random.random() / 2)

    async def _heard_error(self, error: Exception) -> None:
        # Not logged as it is: the driver reports every try to reconnect, with a traceback.
        # A server that lets nobody in may be heard to say so once, and then only hang up.
        if self._failed is None or not isinstance(explain(self._failed, ""), ConfigError):
            self._failed = error
        _LOG.debug("%s: %s", self.where, _plainly(error))
        subject = denial(error)
        if subject is None:
            return
        for token, waiting in tuple(self._waiting.items()):
            if waiting.subject == subject or subject.startswith(self.inbox):
                self._finish(token, Denied(subject))

    async def _went_down(self) -> None:
        was_up = self._up.is_set()
        self._up.clear()
        if was_up:
            self._lost_at = _now()
        self._lose("the connection was lost")
        if was_up and not self._ending:
            _LOG.warning("%s: the connection is lost, trying to reconnect", self.where)

    async def _came_back(self) -> None:
        self._tries = 0
        self._failed = None
        self._up.set()
        _LOG.info("%s: connected again", self.where)
        for do in self._back:
            # Not awaited here: the driver would cancel it with its own task at the next loss.
            self._keep(do())

    def _lose(self, why: str) -> None:
        for token in tuple(self._waiting):
            if self._waiting[token].timer is not None:  # the others have not been sent
                self._finish(token, Lost(why))

    # -- requests

    async def _publish(self, token: int, subject: str, payload: bytes, headers: Headers) -> None:
        try:
            client = self._client
            if client is None or not client.is_connected:
                client = await self._live()
            waiting = self._waiting[token]
            waiting.timer = asyncio.get_running_loop().call_later(
                ANSWER_SECONDS - THERE_SECONDS, self._wait_on, token
            )
            await client.publish(subject, payload, f"{self.inbox}.{token}", headers)
        except (nats.errors.OutboundBufferLimitError, nats.errors.ConnectionClosedError):
            self._finish(token, Lost("the connection was lost"))
        except Exception as error:
            self._finish(token, error)

    def _wait_on(self, token: int) -> None:
        if (waiting := self._waiting.get(token)) is not None:
            waiting.timer = asyncio.get_running_loop().call_later(
                THERE_SECONDS, self._finish, token, TimeoutError()
            )

    async def _hear_reply(self, message: Msg) -> None:
        token = int(message.subject.rpartition(".")[2])
        if message.headers and message.headers.get("Status") == _NOBODY:
            self._finish(token, nats.errors.NoRespondersError())
        else:
            self._finish(token, message)

    def _finish(self, token: int, what: Msg | Exception) -> None:
        waiting = self._waiting.pop(token, None)
        if waiting is not None:
            if waiting.timer is not None:
                waiting.timer.cancel()
            waiting.done(what)

    def _keep(self, chore: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


class _Waiting:
    """A request, and who wants its answer."""

    __slots__ = ("done", "subject", "timer")

    def __init__(self, subject: str, done: Done) -> None:
        self.subject = subject
        self.done = done
        self.timer: asyncio.TimerHandle | None = None
        """None: it has not been sent."""


def _now() -> float:
    return asyncio.get_running_loop().time()


def _plainly(error: BaseException | None) -> str:
    text = str(error) or type(error).__name__
    return text.removeprefix("nats: ").strip("'")
