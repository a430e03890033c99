"""Tasks, failed tasks and workers in Django's admin, which imports this room to find them."""

from omniq.contrib.django.admin import pages as pages
