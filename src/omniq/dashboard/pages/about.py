"""About: versions and settings, secrets masked."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
from htpy import Node, Renderable, a, code, dd, div, dl, dt, p
from litestar import Controller, get
from litestar.di import NamedDependency

from omniq.dashboard.components.bits import card
from omniq.dashboard.components.value import MASK, block
from omniq.dashboard.security import content_policy
from omniq.dashboard.visit import Visit
from omniq.queue.stores import Stores
from omniq.storage.durability import promise_of

_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY_SECRET = re.compile(
    r"([?&;][^=&]*(?:pass|secret|token|key|sig)[^=&]*=)[^&\s]+", re.IGNORECASE
)


class AboutViews(Controller):
    @get("/about", name="omniq:about")
    async def about(self, visit: NamedDependency[Visit]) -> Any:
        return await visit.page("About", regions, here="about", live=False)


async def regions(visit: Visit) -> Sequence[Renderable]:
    config = visit.desk.config
    pairs: list[tuple[str, Node]] = [
        ("OmniQ", _version("omniq-tasks")),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("Litestar", _version("litestar")),
        *_places(visit.queue.stores),
        ("Namespace", config.namespace),
        ("Signed in as", visit.principal.name if visit.principal else ""),
        ("May act", "yes" if visit.may_act else "no, this dashboard is read-only for you"),
        ("Health for machines", a(href=visit.url("health"))[visit.url("health")]),
    ]
    return [
        div("#about.columns.wide-first")[
            div[card("settings", "Settings", block("settings", readable(config), folded=False)),],
            div[
                card(
                    "versions",
                    "This dashboard",
                    dl(".pairs")[((dt[label], dd[value]) for label, value in pairs)],
                ),
                card(
                    "policy",
                    "Content policy",
                    p[
                        (
                            "The official Datastar bundle is in use: it builds functions from "
                            "attributes, so this policy must allow 'unsafe-eval'."
                            if visit.desk.bundle
                            else "Only this dashboard's own files run or are loaded."
                        )
                    ],
                    p[code[content_policy(visit.desk.bundle)]],
                ),
            ],
        ]
    ]


def _places(stores: Stores) -> Iterator[tuple[str, Node]]:
    """Where things are kept, what survives there, and what the place's settings take away."""
    roles = [("Tasks", stores.tasks), ("Results", stores.results), ("Events", stores.events)]
    for name, place in roles:
        if name != "Tasks" and place is stores.tasks:
            continue
        where = place.describe()
        yield f"{name} are kept in", where
        if (promise := promise_of(where)) is not None:
            rests = f" ({promise.settings})" if promise.settings else ""
            yield "What survives", f"{promise.means}{rests}"
            for what in promise.undone:
                yield "But", what


def readable(config: object) -> Any:
    """Settings as plain values; keys, tokens and passwords masked, options of places too."""
    plain = msgspec.to_builtins(config, enc_hook=str)
    for place in ("storage", "task_queue", "result_storage", "event_storage"):
        if given := (plain.get(place) or {}).get("options"):
            plain[place]["options"] = dict.fromkeys(given, MASK)
    if plain.get("signing_keys"):
        plain["signing_keys"] = [[pair[0], MASK] for pair in plain["signing_keys"]]
    return _masked_urls(plain)


def _masked_urls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _masked_urls(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked_urls(item) for item in value]
    if isinstance(value, str):
        return _QUERY_SECRET.sub(rf"\g<1>{MASK}", _USERINFO.sub(f"{MASK}@", value))
    return value


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
