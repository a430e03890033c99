"""Addresses of the stockroom."""

from django.urls import path

from . import views

urlpatterns = [
    path("", views.shelves, name="shelves"),
    path("move/", views.record, name="record"),
    path("day/", views.busy_day, name="busy-day"),
    path("digests/make/", views.make, name="make-digest"),
    path("digests/<str:day>/", views.digest, name="digest"),
    path("at-work/", views.at_work, name="at-work"),
]
