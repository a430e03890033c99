"""The app."""

from django.apps import AppConfig


class StockroomConfig(AppConfig):
    name = "stockroom"
    default_auto_field = "django.db.models.BigAutoField"
