"""Settings of the stockroom. What concerns OmniQ stands first; the rest is Django's usual."""

import os
import secrets
from pathlib import Path

import django

BASE_DIR = Path(__file__).resolve().parent.parent
VAR = Path(os.environ.get("STOCKROOM_DIR", BASE_DIR / "var"))
"""Database, outgoing mail and the secret key: everything this program writes."""
VAR.mkdir(exist_ok=True, parents=True)

TASKS = {"default": {"BACKEND": "omniq.contrib.django.OmniQBackend"}}
OMNIQ = {
    # Tasks live in the app's own database: they come and go with its transactions.
    "DATABASE": "default",
    # The serving process works on them itself; `manage.py omniq_worker` would do so apart.
    "EMBEDDED_WORKER": True,
    "BASE_DIR": VAR / "omniq",
    "RETRIES": 2,
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "omniq.contrib.django",
    "stockroom",
]
if django.VERSION < (6,):
    INSTALLED_APPS.append("django_tasks")

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": VAR / "stockroom.sqlite3",
        # Who means to write says so when the transaction begins, and waits for its turn.
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }
}

EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = VAR / "mail"
DEFAULT_FROM_EMAIL = "stockroom@example.com"
STOCKROOM_MAIL_TO = "office@example.com"


def _secret_key() -> str:
    """Made at the first start and kept, so that logins outlive a restart."""
    path = VAR / "secret_key"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(50))
    return path.read_text()


SECRET_KEY = _secret_key()
DEBUG = os.environ.get("STOCKROOM_DEBUG", "1") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
LOGIN_URL = "admin:login"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
