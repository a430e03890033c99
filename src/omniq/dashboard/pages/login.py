"""Coming in and going out, and the colours of the pages."""

from __future__ import annotations

from typing import Any

from htpy import Element, button, code, div, form, input, label, p, span
from litestar import Controller, Response, get, post
from litestar.di import NamedDependency

from omniq.dashboard.components.bits import hidden
from omniq.dashboard.components.layout import document
from omniq.dashboard.token import TOKEN_FILE
from omniq.dashboard.visit import Visit

OPEN = {"omniq_open": True}
"""Handlers that answer visitors who are not signed in."""
OURS = {"exclude_from_csrf": True}
"""Hosts' own CSRF checks know nothing of our forms; ours are checked by `Visit.form`."""


class LoginViews(Controller):
    @get("/login", name="omniq:login", opt=OPEN)
    async def login(self, visit: NamedDependency[Visit]) -> Any:
        if visit.principal is not None:
            return visit.go(visit.url())
        return login_page(visit, visit.url(), status=200)

    @post("/login", name="omniq:enter", opt={**OPEN, **OURS})
    async def enter(self, visit: NamedDependency[Visit]) -> Response[Any]:
        fields = await visit.form()
        if fields is None:
            return login_page(visit, visit.url(), wrong="The form was too old. Try again.")
        back = visit.inside(fields.get("back", ""))
        if not visit.desk.gate.token_is(fields.get("token", "")):
            return login_page(visit, back, wrong="That is not the token.")
        return visit.go(back, [login_cookie(visit)])

    @post("/logout", name="omniq:leave", opt={**OPEN, **OURS})
    async def leave(self, visit: NamedDependency[Visit]) -> Response[Any]:
        if await visit.form() is None:
            return await visit.refused("Sign out with the button of a page.")
        gone = visit.cookie(visit.desk.gate.login_cookie, "", life=0)
        return visit.go(visit.url("login", notice="signed-out"), [gone])

    @post("/theme", name="omniq:theme", opt={**OPEN, **OURS})
    async def theme(self, visit: NamedDependency[Visit]) -> Response[Any]:
        fields = await visit.form()
        if fields is None:
            return await visit.refused("Choose the colours with the buttons of a page.")
        chosen = fields.get("theme", "auto")
        cookie = visit.cookie("omniq_theme", chosen if chosen in ("light", "dark") else "auto")
        cookie.httponly = False  # the page's own script changes it without a reload
        cookie.max_age = 365 * 86_400
        return visit.go(visit.inside(fields.get("back", "")), [cookie])


def login_cookie(visit: Visit) -> Any:
    from omniq.dashboard.auth import LOGIN_LIFE

    gate = visit.desk.gate
    return visit.cookie(gate.login_cookie, gate.login(), life=LOGIN_LIFE)


def login_page(visit: Visit, back: str, *, wrong: str = "", status: int = 401) -> Response[Any]:
    """What a visitor who is not signed in sees, at whatever address."""
    frame = visit.frame("Sign in")
    return visit.html(str(document(frame, [_form(visit, back, wrong)])), status=status)


def _form(visit: Visit, back: str, wrong: str) -> Element:
    if not visit.desk.gate.by_token:
        return div("#sign-in.card.narrow")[
            p["The app this dashboard lives in lets nobody in here " "who is not signed in there."]
        ]
    return div("#sign-in.card.narrow")[
        p["This dashboard is closed by a token."],
        form(method="post", action=visit.url("login"))[
            hidden(visit.fields),
            input(type="hidden", name="back", value=back),
            label[
                span["Token"],
                input(
                    type="password",
                    name="token",
                    autocomplete="current-password",
                    required=True,
                    autofocus=True,
                    spellcheck="false",
                    aria_invalid="true" if wrong else None,
                    aria_describedby="wrong" if wrong else None,
                ),
            ],
            p("#wrong.wrong", role="alert")[wrong] if wrong else None,
            button(".button.primary", type="submit")["Sign in"],
        ],
        p(".quiet")[
            "The app prints a link with it when it starts. It also stands in the file ",
            code[TOKEN_FILE],
            " of OmniQ's base directory (",
            code[".omniq"],
            " unless set otherwise).",
        ],
    ]
