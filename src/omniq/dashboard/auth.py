"""Who may look and who may act: a token, a password, or a callable of the host's own."""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

from litestar import Request, Response
from msgspec import Struct

from omniq.dashboard.token import derive, same, shared_token
from omniq.errors import ConfigError
from omniq.models import OmniQConfig

LOGIN_LIFE = 30 * 86_400
"""Seconds a login lasts."""


class Principal(Struct, frozen=True):
    """Somebody who may look, and act unless `read_only`. `name` stands in the events.

    `forbidden` are single actions this visitor may not take: retry, cancel, delete.
    """

    name: str
    read_only: bool = False
    forbidden: frozenset[str] = frozenset()


Answer = bool | str | Principal | Response[Any] | None
AuthCallable = Callable[[Request[Any, Any, Any]], Answer | Awaitable[Answer]]
Auth = AuthCallable | tuple[str, str] | None
"""A callable (True, a name, a `Principal` or a response of its own), `(user, password)`, or
None: the token."""


class Gate:
    """Decides who comes in. Without `auth` it is closed by a token."""

    def __init__(self, config: OmniQConfig, auth: Auth = None) -> None:
        self.by_token = auth is None
        self.by_password = isinstance(auth, tuple)
        self._config, self._auth = config, auth
        self._secret: str | None = None

    @property
    def secret(self) -> str:
        """What cookies and form tokens are derived from; in token mode the token itself."""
        if self._secret is None:
            self._secret = self._config.dashboard.token or shared_token(self._config.base_dir)
        return self._secret

    @property
    def suffix(self) -> str:
        """Ends the names of our cookies: browsers share them between the ports of a host."""
        return derive(self.secret, "cookie name")[:8]

    @property
    def login_cookie(self) -> str:
        return f"omniq_login_{self.suffix}"

    @property
    def visitor_cookie(self) -> str:
        return f"omniq_visitor_{self.suffix}"

    def token_is(self, given: str) -> bool:
        return self.by_token and same(given.strip(), self.secret)

    def login(self) -> str:
        """The value of a login cookie: it ends by itself and holds nothing of the token."""
        stamp = f"{int(time.time()) + LOGIN_LIFE}.{secrets.token_urlsafe(12)}"
        return f"{stamp}.{derive(self.secret, 'login', stamp)}"

    def _logged_in(self, cookie: str) -> bool:
        stamp, _, mark = cookie.rpartition(".")
        if not stamp or not same(mark, derive(self.secret, "login", stamp)):
            return False
        return int(stamp.partition(".")[0]) > time.time()

    def form_token(self, request: Request[Any, Any, Any], visitor: str) -> str:
        """What a form must carry: bound to this browser and this login."""
        login = request.cookies.get(self.login_cookie, "")
        return derive(self.secret, "form", visitor, login)

    async def admit(self, request: Request[Any, Any, Any]) -> Principal | Response[Any] | None:
        """The visitor, a response to send instead, or None: not let in."""
        if self._auth is None:
            cookie = request.cookies.get(self.login_cookie)
            return Principal("token") if cookie and self._logged_in(cookie) else None
        if isinstance(self._auth, tuple):
            return _basic(request, *self._auth)
        answer = self._auth(request)
        if isawaitable(answer):
            answer = await answer
        if isinstance(answer, bool) or answer is None:
            return Principal("visitor") if answer else None
        return Principal(answer) if isinstance(answer, str) else answer


def check_auth(auth: object) -> None:
    """Refuse what would open the dashboard to nobody, or, with a password left out, to all."""
    if auth is None or callable(auth):
        return
    if not isinstance(auth, tuple):
        raise ConfigError(
            f"auth={type(auth).__name__} of the dashboard is neither a function of the request nor "
            "(user, password): write auth=('ada', password). For a token of your own, leave auth "
            "out and set dashboard_token"
        )
    if len(auth) != 2 or not all(isinstance(each, str) and each for each in auth):
        raise ConfigError(
            "auth of the dashboard wants two texts that are not empty, (user, password); is the "
            "variable set that the password is read from?"
        )


def _basic(request: Request[Any, Any, Any], user: str, password: str) -> Principal | None:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        given = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Principal(user) if same(given, f"{user}:{password}") else None
