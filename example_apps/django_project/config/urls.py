"""The stockroom at /, Django's admin, and OmniQ's dashboard for the staff."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("stockroom.urls")),
    path("admin/", admin.site.urls),
    path("omniq/", include("omniq.contrib.django.urls")),
]
