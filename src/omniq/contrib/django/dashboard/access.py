"""Who may look at tasks, and what they may do with them.

Looking takes an active member of staff with `omniq.view_task` (or `omniq.change_task`); retry
and cancel take `omniq.change_task`, delete takes `omniq.delete_task`. Superusers may all.
`OMNIQ["DASHBOARD_AUTH"]` names a function that decides for the dashboard in place of this.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string

from omniq.contrib.django.conf import django_settings

if TYPE_CHECKING:
    from omniq.dashboard.auth import Principal

ACTS = {"retry": "change", "cancel": "change", "delete": "delete"}
"""What can be done with a task, and the permission it takes."""


def may(user: Any, permission: str) -> bool:
    """Whether this user has the permission for tasks, as a member of staff."""
    return bool(user.is_active and user.is_staff and user.has_perm(f"omniq.{permission}_task"))


def visitor(request: HttpRequest) -> Principal | HttpResponseBase | None:
    """Who looks at the dashboard; a response to send instead; None: nobody who may."""
    chosen = django_settings().dashboard_auth
    return _of_user(request) if chosen is None else _of_hook(request, chosen)


def login_url() -> str:
    """Where to sign in: `LOGIN_URL` if the project has set it, else the admin if there is one."""
    if not settings.is_overridden("LOGIN_URL"):
        try:
            return reverse("admin:login")
        except NoReverseMatch:
            pass
    return resolve_url(settings.LOGIN_URL)


def _of_user(request: HttpRequest) -> Principal | None:
    from omniq.dashboard.auth import Principal

    user: Any = getattr(request, "user", None)
    if user is None:
        raise ImproperlyConfigured(
            "the dashboard needs to know its visitors: add "
            "'django.contrib.auth.middleware.AuthenticationMiddleware' to MIDDLEWARE, "
            "or set OMNIQ['DASHBOARD_AUTH']"
        )
    if not (may(user, "view") or may(user, "change")):
        return None
    forbidden = frozenset(act for act, permission in ACTS.items() if not may(user, permission))
    return Principal(
        user.get_username()[:100], read_only=len(forbidden) == len(ACTS), forbidden=forbidden
    )


def _of_hook(request: HttpRequest, dotted: str) -> Principal | HttpResponseBase | None:
    from omniq.dashboard.auth import Principal

    answer = _ask(_hook(dotted), request)
    if answer is True:
        user: Any = getattr(request, "user", None)
        name = user.get_username() if user is not None and user.is_authenticated else ""
        return Principal(name[:100] or "visitor")
    if not answer:
        return None
    if isinstance(answer, str):
        return Principal(answer[:100])
    if isinstance(answer, (Principal, HttpResponseBase)):
        return answer
    raise ImproperlyConfigured(
        f"OMNIQ['DASHBOARD_AUTH'] = {dotted!r} gave a {type(answer).__name__}; True, False, a "
        "name, a Principal (from omniq.dashboard) or a response is wanted"
    )


def _hook(dotted: str) -> Callable[[HttpRequest], Any]:
    try:
        found = import_string(dotted)
    except ImportError as error:
        raise ImproperlyConfigured(f"OMNIQ['DASHBOARD_AUTH'] = {dotted!r}: {error}") from error
    if not callable(found):
        raise ImproperlyConfigured(f"OMNIQ['DASHBOARD_AUTH'] = {dotted!r} is no function")
    answer: Callable[[HttpRequest], Any] = found
    return answer


def _ask(hook: Callable[[HttpRequest], Any], request: HttpRequest) -> Any:
    return async_to_sync(hook)(request) if iscoroutinefunction(hook) else hook(request)
