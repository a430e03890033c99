"""For ASGI servers: `uvicorn config.asgi:application`. The worker starts and stops with it."""

import os

from omniq.contrib.django.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_asgi_application()
