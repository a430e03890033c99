"""The tables that keep tasks, in the database that `OMNIQ["DATABASE"]` names; elsewhere nothing."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations

from omniq.contrib.django.tables import Tables


class Migration(migrations.Migration):
    initial = True
    dependencies: ClassVar = []
    operations: ClassVar = [Tables(version=1)]
