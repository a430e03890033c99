"""For WSGI servers: `gunicorn config.wsgi`. The dashboard's pages poll there."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()
