"""The extension: a queue, its worker and its dashboard for as long as the app lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakSet

from starlette.applications import Starlette

from omniq.contrib.announce import announce, served_at
from omniq.contrib.host import shared
from omniq.contrib.role import role
from omniq.contrib.starlette import lookup
from omniq.contrib.starlette.mounting import Auth, Dashboard, mount, place_of
from omniq.core import AsyncOmniQ
from omniq.errors import ConfigError
from omniq.models.config import DashboardConfig, OmniQConfig


class OmniQExtension:
    """Give a Starlette or FastAPI app a task queue: `OmniQExtension().init_app(app)`.

    Settings are those of `AsyncOmniQ`, given the same way; without any, tasks are kept in
    SQLite below `.omniq/` and run inside the app's own process. It can be started as the app's
    `lifespan`, by `init_app`, or by `lifespan_context` inside a lifespan of one's own; started
    twice it runs once, until the last of them has ended.

    * `queue`: one made elsewhere, in place of settings. It is opened and closed with the app.
    * `name`: of several queues in one app each needs one. The queue is then
      `app.state.omniq_<name>` and its dashboard at `/omniq-<name>`.
    * `worker`: whether this process works on the tasks too; None: as the setting `embedded`
      says. In `omniq worker module:app` it never starts a second one.
    * `dashboard`: False for none; None: as the setting says, and not where the app has
      mounted `dashboard()` itself. `auth` says who may see it, see `Auth`.
    * `announce`: say at start where the dashboard is, token included. `url` is where people
      reach the app, if that cannot be read from the server's command line.
    """

    kind: ClassVar[str] = "OmniQExtension"
    alive: ClassVar[WeakSet[OmniQExtension]] = WeakSet()

    def __init__(
        self,
        config: OmniQConfig | Mapping[str, Any] | str | Path | None = None,
        /,
        *,
        queue: AsyncOmniQ | None = None,
        name: str = lookup.MAIN,
        worker: bool | None = None,
        dashboard: bool | None = None,
        auth: Auth = None,
        url: str | None = None,
        announce: bool = True,
        **options: Any,
    ) -> None:
        if not name.isidentifier():
            raise ConfigError(
                f"OmniQExtension(name={name!r}) names an attribute of app.state, so it has to be "
                "a Python identifier, such as 'emails'"
            )
        if queue is not None and (config is not None or options):
            raise ConfigError(
                "OmniQExtension was given both queue= and settings, and the settings would have "
                "no effect: put them where that queue is made"
            )
        for option, value in (("worker", worker), ("dashboard", dashboard)):
            if value is not None and not isinstance(value, bool):  # "false" would mean yes
                raise ConfigError(f"OmniQExtension({option}={value!r}): write True, False or None")
        if queue is not None and not isinstance(queue, AsyncOmniQ):
            raise ConfigError(
                f"OmniQExtension(queue=...) wants an AsyncOmniQ, which lives on the app's event "
                f"loop, not {type(queue).__name__}: make it with AsyncOmniQ(...), of the same "
                "arguments as OmniQ(...)"
            )
        if url is not None and not str(url).startswith(("http://", "https://")):
            raise ConfigError(
                f"OmniQExtension(url={url!r}): where people reach the app is wanted, for example "
                "url='https://shop.example/api'"
            )
        self.queue = AsyncOmniQ(config, **options) if queue is None else queue
        self.name, self._auth, self._url, self._announce = name, auth, url, announce
        self._works = self.queue.embedded if worker is None else worker
        if not self._works and not shared(self.queue):
            raise ConfigError(
                f"OmniQExtension(worker=False) cannot work with {self.queue.describe()}: it lives "
                "inside this process, so a worker in another one would watch an empty queue "
                "forever and look healthy. Write worker=True, or keep tasks where processes can "
                "share them: OmniQExtension(storage_type='sqlite')."
            )
        self.queue.embedded = self._works
        self._dashboard = self.queue.config.dashboard.enabled if dashboard is None else dashboard
        self._everywhere = bool(dashboard)
        self._own = Dashboard(self.queue, auth)
        self._handed_out: list[Dashboard] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()
        self._starts = 0
        self._wrapped: WeakSet[Starlette] = WeakSet()
        self._apps: list[Starlette] = []
        self.alive.add(self)
        self._prepare()

    def _prepare(self) -> None:
        """For rooms above this one: the extension is made."""

    def _check(self) -> None:
        """For rooms above this one: refuse to start, with a ConfigError."""

    @property
    def dashboard_path(self) -> str:
        """Where the dashboard is mounted unless the app does it."""
        path = "/" + self.queue.config.dashboard.path.strip("/")
        default = path == DashboardConfig().path and self.name != lookup.MAIN
        return f"{path}-{self.name}" if default else path

    # -- ways to start -------------------------------------------------------------------

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[dict[str, Any]]:
        """Run with the app: `FastAPI(lifespan=omniq.lifespan)`. Gives the lifespan's state."""
        _check_app(app, "lifespan")
        web = role() == "web"
        shown = self._show(app) if web else None
        for each in (shown, *self._handed_out) if web else ():
            if each is not None:
                each.prepare()
        lookup.enter(app, self)
        self._apps.append(app)
        try:
            self._check()
            first = await self._start(works=web and self._works)
            try:
                if first and shown is not None and self._announce:
                    announce(self._notice(shown, app))
                yield {lookup.state_key(self.name): self.queue}
            finally:
                await self._stop()
        finally:
            self._apps.remove(app)
            lookup.leave(app, self)

    def lifespan_context(self, app: Starlette) -> AbstractAsyncContextManager[dict[str, Any]]:
        """The same inside a lifespan of one's own: `async with omniq.lifespan_context(app):`.

        What it gives belongs into the state your lifespan yields, if it yields one.
        """
        return self.lifespan(app)

    def init_app(self, app: Starlette) -> None:
        """Run with an app that is made already, inside its own lifespan: open after, closed
        before what that opens. Again: no effect."""
        _check_app(app, "init_app")
        if app in self._wrapped:
            return
        self._wrapped.add(app)
        theirs = app.router.lifespan_context

        @asynccontextmanager
        async def both(app: Starlette) -> AsyncIterator[dict[str, Any]]:
            async with theirs(app) as state, self.lifespan(app) as ours:
                yield {**(state or {}), **ours}

        app.router.lifespan_context = both

    async def _start(self, *, works: bool) -> bool:
        """True for the first start, False if it runs already."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and self._starts and not self._loop.is_closed():
                raise ConfigError(
                    f"this {self.kind} runs already, on another event loop (two test clients at "
                    "once?): a queue lives on one loop. Make the app and its extension in a "
                    "function, and call it once for each."
                )
            self._loop, self._lock, self._starts = loop, asyncio.Lock(), 0
        async with self._lock:
            if not self._starts:
                await self._open(works)
            self._starts += 1
            return self._starts == 1

    async def _open(self, works: bool) -> None:
        # In a worker process, enqueueing must not start a second worker beside its own.
        self.queue.embedded = works
        try:
            await self.queue.open()
            if works:
                await self.queue.start_worker()
        except BaseException:
            await self.queue.close(0)
            raise

    async def _stop(self) -> None:
        async with self._lock:
            self._starts -= 1
            if not self._starts:
                self.close_streams()
                await self.queue.close()

    # -- the dashboard -------------------------------------------------------------------

    def dashboard(self, auth: Auth = None) -> Dashboard:
        """The dashboard as an ASGI app: `app.mount("/ops", omniq.dashboard())`.

        `auth` as for the extension, whose own is the default. After this call the extension
        mounts none itself, unless it was made with dashboard=True.
        """
        made = Dashboard(self.queue, self._auth if auth is None else auth)
        self._handed_out.append(made)
        return made

    def close_streams(self) -> None:
        """End the dashboard's live pages, so that a server that stops need not wait for them.

        On SIGTERM and SIGINT this happens by itself; it is for hosts that stop in another way.
        """
        for each in (self._own, *self._handed_out):
            each.close_streams()

    def dashboard_url(self, app: Starlette, address: str = "") -> str:
        """The dashboard's URL on `address`, with the token if that is what opens it."""
        for each in (self._own, *self._handed_out):
            place = place_of(each, app)
            if place is not None:
                return address.rstrip("/") + each.login_path(place)
        raise ConfigError("this app has mounted no dashboard of this queue")

    def _show(self, app: Starlette) -> Dashboard | None:
        """The dashboard that visitors of this app find, mounted now if nobody did."""
        if self._dashboard and (self._everywhere or not self._handed_out):
            if mount(self._own, app, self.dashboard_path):
                return self._own
            return None
        return self._handed_out[0] if self._handed_out else None

    def _notice(self, shown: Dashboard, app: Starlette) -> str:
        address, place = self._url or served_at(), place_of(shown, app)
        if place is None:
            return f"OmniQ dashboard: where you mounted it, with {shown.login_path()[1:] or '/'}"
        known = "" if address else " (on this app's own address)"
        link = (address or "").rstrip("/") + shown.login_path(place)
        return f"OmniQ dashboard: {link}{known}"


def _check_app(app: object, method: str) -> None:
    if not isinstance(app, Starlette):
        raise ConfigError(
            f"omniq.{method}() wants the Starlette or FastAPI app it starts with, not "
            f"{app!r:.60}: write omniq.init_app(app), or lifespan=omniq.lifespan (not called) "
            "where the app is made"
        )
