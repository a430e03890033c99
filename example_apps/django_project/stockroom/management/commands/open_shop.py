"""`manage.py open_shop`: everything from nothing to a running shop, in one command."""

import secrets

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.utils import timezone
from stockroom.samples import fill_shelves
from stockroom.tasks import plan_night


class Command(BaseCommand):
    help = "Make the database, fill the shelves, plan the night and serve the shop."
    requires_system_checks = ()
    requires_migrations_checks = False

    def add_arguments(self, parser):
        parser.add_argument("address", nargs="?", default="127.0.0.1:8000")
        parser.add_argument("--no-serve", action="store_true", help="Prepare, and stop there.")

    def handle(self, *, address, no_serve, verbosity, **options):
        call_command("migrate", verbosity=max(0, verbosity - 1), interactive=False)
        if filled := fill_shelves():
            self.stdout.write(f"{filled} shelves filled.")
        plan_night(timezone.localdate())
        self._keeper(address)
        if not no_serve:
            call_command("runserver", address, use_reloader=False)

    def _keeper(self, address):
        """A login for the admin and the dashboard, with a password nobody else has."""
        users = get_user_model().objects
        if users.filter(username="keeper").exists():
            self.stdout.write("The admin's login is as before (manage.py changepassword keeper).")
            return
        password = secrets.token_urlsafe(9)
        users.create_superuser("keeper", "keeper@example.com", password)
        self.stdout.write(
            f"Shop       http://{address}/\n"
            f"Dashboard  http://{address}/omniq/\n"
            f"Admin      http://{address}/admin/\n"
            f"Login      keeper, password {self.style.SUCCESS(password)} (shown this once)"
        )
