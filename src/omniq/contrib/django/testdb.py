"""Test databases that are dropped at the end: servers refuse that while somebody is connected."""

from __future__ import annotations

from functools import wraps
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from omniq.contrib.django.conf import under_test


def let_go_before_drop(connection: BaseDatabaseWrapper) -> None:
    """Have the queue of this process closed before Django drops a test database of this kind.

    Django closes its own connection there, but has no signal for others.
    """
    creation = type(connection.creation)
    destroy = creation.destroy_test_db
    if not under_test() or hasattr(destroy, "_omniq"):
        return

    @wraps(destroy)
    def let_go(*args: Any, **named: Any) -> Any:
        from omniq.contrib.django.runtime import reset

        reset()
        return destroy(*args, **named)

    let_go._omniq = True  # type: ignore[attr-defined]
    creation.destroy_test_db = let_go  # type: ignore[method-assign]
