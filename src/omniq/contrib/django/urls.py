"""The dashboard: `path("omniq/", include("omniq.contrib.django.urls"))`."""

from __future__ import annotations

from django.urls import path

from omniq.contrib.django.dashboard import views

app_name = "omniq"
urlpatterns = [
    path("static/<str:version>/<str:name>", views.asset, name="asset"),
    path("", views.dashboard, name="index"),
    path("<path:rest>", views.dashboard, name="page"),
]
