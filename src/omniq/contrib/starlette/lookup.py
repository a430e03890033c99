"""From a request to the queue of the app it came to, through every kind of mount."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from omniq.core import AsyncOmniQ
from omniq.errors import ConfigError, NotStarted, did_you_mean

MAIN = "queue"
"""The name of an app's only queue."""


class Named(Protocol):
    """What the register keeps: a queue and its name in the app."""

    @property
    def name(self) -> str: ...
    @property
    def queue(self) -> AsyncOmniQ: ...


_started: WeakKeyDictionary[Starlette, list[Named]] = WeakKeyDictionary()
_by_router: WeakValueDictionary[int, Starlette] = WeakValueDictionary()


def state_key(name: str) -> str:
    """The name of a queue in `app.state` and `request.state`."""
    return "omniq" if name == MAIN else f"omniq_{name}"


def started_in(app: Starlette) -> list[Named]:
    """What runs in this app now, in the order of its start, each as often as it was started."""
    return _started.get(app, [])


def enter(app: Starlette, extension: Named) -> None:
    """The extension runs in this app from now on."""
    here = _started.setdefault(app, [])
    if any(each.name == extension.name and each is not extension for each in here):
        raise ConfigError(
            f"two OmniQ extensions of one app are both named {extension.name!r}: give one of "
            "them a name of its own, such as OmniQExtension(name='emails')"
        )
    here.append(extension)
    _by_router[id(app.router)] = app
    setattr(app.state, state_key(extension.name), extension.queue)


def leave(app: Starlette, extension: Named) -> None:
    """One of its starts in this app has ended."""
    here = _started.get(app, [])
    if extension in here:
        here.remove(extension)
    key = state_key(extension.name)
    if extension not in here and getattr(app.state, key, None) is extension.queue:
        delattr(app.state, key)


def find_queue(conn: HTTPConnection, name: str = MAIN) -> AsyncOmniQ:
    """The queue of that name; raises NotStarted, which says what to write."""
    key = state_key(name)
    for state in _states(conn):
        queue = getattr(state, key, None)
        if isinstance(queue, AsyncOmniQ):
            return queue
    raise NotStarted(_missing(name, _names(conn)))


def _states(conn: HTTPConnection) -> Iterator[Any]:
    """Where a queue may be noted: the app itself, what the server carries, the app around it."""
    app = conn.scope.get("app")
    if app is not None:
        yield app.state  # first: a mounted app may have started one of its own
    yield conn.state  # of the lifespan; mounted apps inherit it
    # Servers that carry no state (httpx.ASGITransport): a mounted app hides the one around
    # it in the scope, but not that one's router.
    router = conn.scope.get("router")
    around = _by_router.get(id(router))
    if around is not None and around.router is router:
        yield around.state


def _names(conn: HTTPConnection) -> list[str]:
    keys = [str(key) for state in _states(conn) for key in getattr(state, "_state", state)]
    names = [key.removeprefix("omniq_") for key in keys if key.startswith("omniq_")]
    return [MAIN, *names] if "omniq" in keys else names


def _missing(name: str, known: list[str]) -> str:
    if known:
        near = did_you_mean(name, known)
        near = near if "did you mean" in near else ""  # all of them are named anyway
        return (
            f"this app has started no queue named {name!r}{near} "
            f"(started: {', '.join(dict.fromkeys(known))}). Each name is an extension of its own: "
            f"OmniQExtension(name={name!r}).init_app(app)"
        )
    which = "" if name == MAIN else f" with a queue named {name!r}"
    return (
        f"OmniQ is not started in this app{which}, so there is no queue for this route. Start "
        "it with the app: write lifespan=omniq.lifespan where the app is made, or "
        "omniq.init_app(app). Only the outermost app is started: not one that is mounted. In a "
        "test, enter the app's lifespan: `with TestClient(app) as "
        "client:`, or `async with app.router.lifespan_context(app):` around httpx."
    )
