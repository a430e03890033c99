"""Users of the tests' Django, signed in."""

from __future__ import annotations

import asyncio
from typing import Any

from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.test import Client

from omniq._portal import portal
from omniq.contrib.django.models import Task
from omniq.contrib.django.runtime import native
from omniq.models.event import TaskEvent
from omniq.models.filters import EventFilter
from omniq.models.status import EventType


def signed_in(
    *permissions: str, staff: bool = True, root: bool = False, name: str = "", **more: Any
) -> Client:
    """A browser of somebody with these permissions for tasks."""
    name = name or f"user-{User.objects.count()}"
    user = User.objects.create_user(name, is_staff=staff, is_superuser=root)
    ContentType.objects.clear_cache()
    kind = ContentType.objects.get_for_model(Task)
    for codename in permissions:
        found, _ = Permission.objects.get_or_create(content_type=kind, codename=codename)
        user.user_permissions.add(found)
    client = Client(**more)
    client.force_login(user)
    return client


def events_of(task_id: str, kind: EventType) -> list[TaskEvent]:
    """The task's events of this kind, once there are some."""

    async def heard() -> list[TaskEvent]:
        asked = EventFilter(task=task_id, types=(kind,))
        async with asyncio.timeout(20), native().listen({"events"}) as ear:
            while not (found := (await native().events(asked)).events):
                await ear.wait(1.0)
            return found

    return portal.run(heard)
