"""The plugin: a queue, its worker and its dashboard for as long as the app lives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litestar import Litestar
from litestar.config.app import AppConfig
from litestar.di import NamedDependency, Provide
from litestar.types import Guard
from msgspec.structs import replace

from omniq.config import load_config
from omniq.contrib.announce import announce, served_at
from omniq.contrib.host import shared
from omniq.contrib.litestar.base import Innermost, QueuePlugin
from omniq.contrib.litestar.handles import ENCODERS, HandleSchemas
from omniq.contrib.litestar.inject import Injector
from omniq.contrib.litestar.placement import Placement, check_placement, check_started
from omniq.contrib.litestar.rest import rest_router
from omniq.contrib.role import role
from omniq.core import AsyncOmniQ, AsyncTaskQueue
from omniq.dashboard import DashboardRouter, dashboard_router
from omniq.dashboard.auth import Auth
from omniq.errors import ConfigError
from omniq.handle import AsyncTaskHandle
from omniq.models.config import DashboardConfig, OmniQConfig
from omniq.sync import OmniQ, TaskHandle, TaskQueue

if TYPE_CHECKING:
    from click import Group

NAMES = {
    each.__name__: each
    for each in (AsyncOmniQ, AsyncTaskQueue, AsyncTaskHandle, OmniQ, TaskQueue, TaskHandle)
} | {"NamedDependency": NamedDependency}
"""Names handlers may use in annotations without importing them at run time. Only names that
can be nobody else's: Litestar prefers these to what the handler's own module holds."""


class OmniQPlugin(QueuePlugin):
    """Give a Litestar app a task queue: `Litestar(plugins=[OmniQPlugin()])`.

    Settings are those of `AsyncOmniQ`, given the same way; without any, tasks are kept in
    SQLite below `.omniq/` and run inside the app's own process. Handlers get the queue as the
    dependency `key` (`queue: NamedDependency[AsyncOmniQ]`), everything else finds it as
    `app.state.omniq`.

    Tasks get dependencies of the app by name, as handlers do. The worker drains before what
    other plugins have opened is closed, wherever this one is listed.

    * `queue`: one made elsewhere, in place of settings. It is opened and closed with the app.
    * `key`: the dependency's name. A second plugin needs one of its own; its queue is then
      `app.state.omniq_<key>` and its dashboard at `/omniq-<key>`.
    * `placement`: who works on the tasks, see `Placement`.
    * `dashboard`: False for none, or a `DashboardConfig` in place of the settings
      `dashboard_path`, ... `auth` and `guards` say who may see it (without either, whoever
      has the token).
    * `api`: True for REST routes below the dashboard's path, or a path for them. They are
      closed as the dashboard is, and take its token as a bearer's. `api_in_schema` puts them
      into the app's OpenAPI schema.
    * `announce`: say at start where the dashboard is, token included. `url` is where people
      reach the app, if that cannot be read from the server's command line.
    """

    def __init__(
        self,
        config: OmniQConfig | Mapping[str, Any] | str | Path | None = None,
        /,
        *,
        queue: AsyncOmniQ | None = None,
        key: str = "queue",
        placement: Placement | None = None,
        dashboard: bool | DashboardConfig | None = None,
        auth: Auth = None,
        guards: Sequence[Guard] = (),
        api: bool | str = False,
        api_in_schema: bool = False,
        url: str | None = None,
        announce: bool = True,
        **options: Any,
    ) -> None:
        if not key.isidentifier():
            raise ConfigError(
                f"OmniQPlugin(key={key!r}) names a handler's parameter, "
                "so it has to be a Python identifier, such as 'emails'"
            )
        if queue is not None and (config is not None or options):
            raise ConfigError(
                "OmniQPlugin was given both queue= and settings, and the settings would have "
                "no effect: put them where that queue is made"
            )
        self.queue = AsyncOmniQ(config, **options) if queue is None else queue
        self.key, self._auth, self._guards = key, auth, list(guards)
        self._url, self._announce = url, announce
        self.placement: Placement = placement or ("asgi" if self.queue.embedded else "external")
        check_placement(self.placement, shared=shared(self.queue), place=self.queue.describe())
        self.queue.embedded = self.placement == "asgi"
        self._config = self.queue.config
        if isinstance(dashboard, DashboardConfig):
            self._config = load_config(replace(self._config, dashboard=dashboard))
            dashboard = None
        self._dashboard = self._config.dashboard.enabled if dashboard is None else dashboard
        self._api, self._api_in_schema = api, api_in_schema
        self._router: DashboardRouter | None = None
        self._prefix = ""

    @property
    def state_key(self) -> str:
        """The name of the queue in `app.state`."""
        return "omniq" if self.key == "queue" else f"omniq_{self.key}"

    @property
    def dashboard_path(self) -> str | None:
        """Where the dashboard is in the app, None without one."""
        return self._own_path if self._dashboard else None

    @property
    def api_path(self) -> str | None:
        """Where the REST routes are in the app, None without any."""
        if isinstance(self._api, str):
            return "/" + self._api.strip("/")
        return f"{self._own_path}/api" if self._api else None

    @property
    def _own_path(self) -> str:
        path = "/" + self._config.dashboard.path.strip("/")
        default = path == DashboardConfig().path and self.key != "queue"
        return f"{path}-{self.key}" if default else path

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Register everything with the app. Litestar calls this."""
        if self.key in app_config.dependencies:
            raise ConfigError(_taken(self.key, app_config))
        queue = self.queue
        app_config.dependencies[self.key] = Provide(lambda: queue, sync_to_thread=False)
        app_config.signature_namespace = NAMES | app_config.signature_namespace
        app_config.type_encoders = ENCODERS | dict(app_config.type_encoders or {})
        app_config.plugins.append(HandleSchemas())
        app_config.state[self.state_key] = queue
        app_config.plugins.append(Innermost(self._lifespan))
        self._prefix = "/".join(["", *filter(None, app_config.path.split("/"))])
        pages = dashboard_router(
            lambda: queue,
            self._own_path,
            auth=self._auth,
            guards=self._guards or None,
            config=self._config,
        )
        if self._dashboard:
            self._router = pages
            app_config.route_handlers.append(pages)
        if (path := self.api_path) is not None:
            shown, guards = self._api_in_schema, self._guards
            routes = rest_router(queue, pages, path=path, guards=guards, include_in_schema=shown)
            app_config.route_handlers.append(routes)
        return app_config

    def on_cli_init(self, cli: Group) -> None:
        """Add `litestar workers ...`. Litestar calls this."""
        from omniq.contrib.litestar.commands import add_commands  # Litestar's own is not light

        add_commands(cli)

    @contextmanager
    def server_lifespan(self, app: Litestar) -> Iterator[None]:
        """Keep the worker process of placement "server". `litestar run` enters this."""
        if self.placement != "server":
            yield
            return
        from omniq.contrib.litestar.server import worker_process

        with worker_process(self.key, grace=self.queue.config.worker.grace):
            yield

    @asynccontextmanager
    async def _lifespan(self, app: Litestar) -> AsyncIterator[None]:
        web = role() == "web"
        if web and self.placement == "server":
            check_started(self.key)
        # In a worker process, enqueueing must not start a second worker beside its own.
        self.queue.embedded = works = web and self.placement == "asgi"
        injector = Injector(app)
        injector.check_known()
        self.queue.around.append(injector)
        try:
            async with self.queue:
                if works:
                    await self.queue.start_worker()
                if web and self._announce and self._router is not None:
                    announce(self._notice())
                yield
        finally:
            self.queue.around.remove(injector)

    def dashboard_url(self, address: str) -> str:
        """The dashboard's URL on `address`, with the token if that is what opens it."""
        if self._router is None:
            raise ConfigError("this app has no dashboard: OmniQPlugin was told dashboard=False")
        return address.rstrip("/") + self._prefix + self._router.login_path()

    def close_streams(self) -> None:
        """End the dashboard's live pages, so that a server that stops need not wait for them.

        On SIGTERM and SIGINT this happens by itself; it is for hosts that stop in another way.
        """
        if self._router is not None:
            self._router.close_streams()

    def _notice(self) -> str:
        address = self._url or served_at()
        known = "" if address else " (on this app's own address)"
        return f"OmniQ dashboard: {self.dashboard_url(address or '')}{known}"


def _taken(key: str, app_config: AppConfig) -> str:
    others = [each for each in app_config.plugins if isinstance(each, OmniQPlugin)]
    if sum(each.key == key for each in others) > 1:
        return (
            f"two OmniQPlugins of one app both provide the dependency {key!r}: give one of them "
            "a name of its own, such as OmniQPlugin(key='emails')"
        )
    return (
        f"the app already has a dependency {key!r}, which OmniQPlugin would hide: name the "
        "queue otherwise, such as OmniQPlugin(key='tasks')"
    )
