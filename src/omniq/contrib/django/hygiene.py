"""What surrounds every task: Django's connections and its per-thread state as a request finds them."""

from __future__ import annotations

from omniq.queue.engine import Loaded


def clean(call: Loaded) -> Loaded:
    """The call with cleaning before and behind it."""
    return call
