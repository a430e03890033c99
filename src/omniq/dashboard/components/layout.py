"""The frame around every page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from datastar_py import action_generator as actions
from datastar_py import attribute_generator as attributes
from htpy import (
    Element,
    Renderable,
    a,
    body,
    button,
    div,
    footer,
    form,
    h1,
    head,
    header,
    html,
    input,
    link,
    main,
    meta,
    nav,
    noscript,
    p,
    path,
    script,
    span,
    svg,
    title,
)
from msgspec import Struct

from omniq.dashboard.components.bits import Fields, hidden
from omniq.dashboard.components.format import now_ms
from omniq.dashboard.components.icons import icon
from omniq.dashboard.components.notice import notice

RELOAD = "15"
"""Seconds after which a page reloads itself where no script runs."""


class NavEntry(NamedTuple):
    """One entry of the navigation: the page's path below the prefix, and its label."""

    path: str
    label: str


class Frame(Struct, frozen=True, kw_only=True):
    """What the frame needs to know of a visit."""

    title: str
    prefix: str
    assets: str
    nav: tuple[NavEntry, ...]
    here: str
    stream: str
    """Where the page's updates come from; "": it has none."""
    every: float
    """Seconds between two questions for updates; 0: one answer that goes on."""
    theme: str
    fields: Fields
    notice: str
    bundle: str | None
    read_only: bool
    can_leave: bool
    again: str
    """This page, for forms that come back to it."""
    place: str


def document(frame: Frame, regions: Sequence[Renderable]) -> Element:
    """A whole page. Every region has an id: updates replace regions one by one."""
    return html(lang="en", data_theme=frame.theme, data_now=str(now_ms()))[
        head[
            meta(charset="utf-8"),
            meta(name="viewport", content="width=device-width, initial-scale=1"),
            meta(name="robots", content="noindex"),
            meta(name="color-scheme", content="light dark"),
            title[f"{frame.title} · OmniQ"],
            link(rel="icon", type="image/svg+xml", href=f"{frame.assets}/favicon.svg"),
            link(rel="stylesheet", href=f"{frame.assets}/omniq.css"),
            noscript[meta(http_equiv="refresh", content=RELOAD)] if frame.stream else None,
            script(type="module", src=frame.bundle or f"{frame.assets}/live.js"),
            script(type="module", src=f"{frame.assets}/page.js"),
        ],
        body[
            a(".skip", href="#main")["Skip to the content"],
            _header(frame),
            main("#main", tabindex="-1")[
                h1[frame.title],
                notice(frame.notice),
                regions,
            ],
            _footer(frame),
            div("#toasts", aria_live="polite"),
            div("#live", *_stream(frame)) if frame.stream else None,
        ],
    ]


def _stream(frame: Frame) -> tuple[dict[str, str | bool], ...]:
    if frame.every and frame.bundle:
        asking = attributes.on_interval(actions.get(frame.stream, retry="never"))
        return (dict(asking.duration(f"{frame.every:g}s")),)
    ask = actions.get(frame.stream, retry="always", retry_max_count=1_000_000)
    found: dict[str, str | bool] = dict(attributes.init(ask))
    if frame.every:
        found["data-every"] = f"{1000 * frame.every:.0f}"
    return (found,)


def logo() -> Element:
    return svg(".logo", viewBox="0 0 32 32", width="28", height="28", aria_hidden="true")[
        path(".ring", d="M21.9 24.1A10 10 0 1 1 24.6 11"),
        path(".flow", d="M25.9 14.6A10 10 0 0 1 24 22"),
        path(".tail", d="M17.5 17.5L27.5 27.5"),
    ]


def _header(frame: Frame) -> Element:
    return header(".top")[
        div(".bar")[
            a(".brand", href=f"{frame.prefix}/", aria_label="OmniQ, to the overview")[
                logo(), span["OmniQ"]
            ],
            (
                nav(aria_label="Pages")[
                    (
                        a(
                            href=f"{frame.prefix}/{entry.path}",
                            aria_current="page" if entry.path == frame.here else None,
                        )[entry.label]
                        for entry in frame.nav
                    )
                ]
                if frame.nav
                else None
            ),
            div(".tools")[
                span(".badge.read-only")["Read only"] if frame.read_only else None,
                _live_state() if frame.stream else None,
                _themes(frame),
                _leave(frame) if frame.can_leave else None,
            ],
        ]
    ]


def _live_state() -> Element:
    return div("#connection", data_state="off", data_ignore_morph=True)[
        span(".dot", aria_hidden="true"),
        span(".word", role="status")["Static"],
        button("#pause", type="button", hidden=True, aria_pressed="false", title="Pause (p)")[
            span(".when-on")[icon("pause")],
            span(".when-off")[icon("play")],
            span(".sr")["Pause live updates"],
        ],
    ]


def _themes(frame: Frame) -> Element:
    return form(".themes", method="post", action=f"{frame.prefix}/theme", aria_label="Colours")[
        hidden(frame.fields),
        input(type="hidden", name="back", value=frame.again),
        (
            button(
                type="submit",
                name="theme",
                value=value,
                aria_pressed="true" if frame.theme == value else "false",
                title=f"{label} colours",
            )[icon(drawing), span(".sr")[f"{label} colours"]]
            for value, label, drawing in (
                ("light", "Light", "sun"),
                ("auto", "System", "auto"),
                ("dark", "Dark", "moon"),
            )
        ),
    ]


def _leave(frame: Frame) -> Element:
    return form(method="post", action=f"{frame.prefix}/logout")[
        hidden(frame.fields),
        button(".plain", type="submit", title="Sign out")[icon("leave"), span(".sr")["Sign out"]],
    ]


def _footer(frame: Frame) -> Element:
    return footer[
        noscript[
            p[
                "Scripts are off: this page reloads itself now and then, everything else works. ",
                a(href=frame.again)["Reload now"],
            ]
        ],
        p(".quiet")[
            span["Tasks are kept in ", span(".place")[frame.place]] if frame.place else None,
        ],
    ]
