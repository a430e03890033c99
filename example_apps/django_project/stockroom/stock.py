"""What changes a shelf, and the warning that goes with it."""

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F
from django.utils import timezone

try:
    from django.tasks import task
except ImportError:  # Django 5.2: the backport
    from django_tasks import task

from .models import Movement, Product


class NotEnough(Exception):
    """The shelf holds fewer pieces than somebody wants to take."""


@task
def warn(product_id: int) -> str:
    """Tell the office that a shelf runs low."""
    product = Product.objects.get(pk=product_id)
    if not product.is_low:
        return f"{product.name}: there is enough again"
    text = (
        f"{product.stock} of {product.name} ({product.sku}) are left; there should be "
        f"{product.minimum}."
    )
    send_mail(f"Low: {product.name}", text, None, [settings.STOCKROOM_MAIL_TO])
    return text


def move(product_id: int, quantity: int, note: str = "") -> Movement:
    """Record a movement and, if the shelf is low for the first time, the task that says so.

    All or nothing: the task is enqueued in the same transaction, so there is no warning about
    a sale that was rolled back, and no sale without its warning.
    """
    if not quantity:
        raise ValidationError("A movement of nothing is no movement.")
    with transaction.atomic():
        changed = Product.objects.filter(pk=product_id, stock__gte=-quantity).update(
            stock=F("stock") + quantity
        )
        product = Product.objects.get(pk=product_id)
        if not changed:
            raise NotEnough(f"{product.stock} of {product.name} are left, {-quantity} are wanted")
        movement = Movement.objects.create(product=product, quantity=quantity, note=note)
        if product.is_low and product.warned_at is None:
            Product.objects.filter(pk=product_id).update(warned_at=timezone.now())
            warn.enqueue(product_id)
        elif not product.is_low and product.warned_at is not None:
            Product.objects.filter(pk=product_id).update(warned_at=None)
    return movement
