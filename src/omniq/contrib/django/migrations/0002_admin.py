"""What the admin shows: models without tables, here for their permissions."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("omniq", "0001_tables")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="Task",
            fields=[("id", models.CharField(max_length=36, primary_key=True, serialize=False))],
            options={
                "verbose_name": "task",
                "verbose_name_plural": "tasks",
                "ordering": ("-id",),
                "permissions": (("manage_queue", "Can act on whole groups of tasks"),),
                "managed": False,
                "default_permissions": ("view", "change", "delete"),
                "base_manager_name": "objects",
            },
        ),
        migrations.CreateModel(
            name="Worker",
            fields=[("id", models.CharField(max_length=36, primary_key=True, serialize=False))],
            options={
                "verbose_name": "worker",
                "verbose_name_plural": "workers",
                "managed": False,
                "default_permissions": (),
                "base_manager_name": "objects",
            },
        ),
        migrations.CreateModel(
            name="FailedTask",
            fields=[],
            options={
                "verbose_name": "failed task",
                "verbose_name_plural": "failed tasks",
                "proxy": True,
                "default_permissions": (),
                "indexes": [],
                "constraints": [],
            },
            bases=("omniq.task",),
        ),
    ]
