"""What happens in the background: the sales of a busy day, deliveries, the nightly digest."""

from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta

from django.conf import settings
from django.core.mail import send_mail
from django.db.models import Q, Sum
from django.utils import timezone

import omniq
from omniq.contrib.django import queue
from omniq.errors import DuplicateTask

from .models import Digest, Movement, Product
from .stock import move, task

AT_NIGHT = time(2, 0, tzinfo=UTC)


@task(priority=10)
def ring_up(product_id: int, pieces: int) -> str:
    """Sell so many pieces.

    With too few on the shelf it fails and is kept: once a delivery has come, a retry by hand
    (in the admin or on the dashboard) makes the sale good.
    """
    movement = move(product_id, -pieces, "sold")
    return str(movement)


@task
def deliver(product_id: int) -> str:
    """Fill a shelf up to twice what should be there."""
    product = Product.objects.get(pk=product_id)
    wanted = 2 * product.minimum - product.stock
    return str(move(product_id, wanted, "delivery")) if wanted > 0 else "nothing to bring"


@task
def make_digest(day: str) -> int:
    """Sum up a day, mail it, and plan the next night. Gives how many products moved.

    Made twice it says the same: what was there for that day is replaced.
    """
    on = date.fromisoformat(day)
    moved = Movement.objects.filter(at__date=on)
    products = Product.objects.filter(movements__in=moved).distinct()
    lines = []
    for number, product in enumerate(products, 1):
        sums = moved.filter(product=product).aggregate(
            came=Sum("quantity", filter=Q(quantity__gt=0), default=0),
            went=Sum("quantity", filter=Q(quantity__lt=0), default=0),
        )
        lines.append(
            {
                "name": product.name,
                "sku": product.sku,
                "in": sums["came"],
                "out": -sums["went"],
                "stock": product.stock,
                "minimum": product.minimum,
            }
        )
        omniq.current().set_progress({"done": number, "total": len(products)})
    digest, _ = Digest.objects.update_or_create(
        day=on,
        defaults={
            "made_at": timezone.now(),
            "moved_in": sum(line["in"] for line in lines),
            "moved_out": sum(line["out"] for line in lines),
            "lines": lines,
        },
    )
    send_mail(str(digest), letter(digest), None, [settings.STOCKROOM_MAIL_TO])
    return len(lines)


def letter(digest: Digest) -> str:
    """The digest as plain text."""
    head = f"{digest.moved_in} pieces came in, {digest.moved_out} went out.\n"
    rows = [
        f"{line['name']:<28} in {line['in']:>4}   out {line['out']:>4}   left {line['stock']:>4}"
        + ("   LOW" if line["stock"] < line["minimum"] else "")
        for line in digest.lines
    ]
    return "\n".join([head, *rows, ""])


@omniq.task(retries=5, retry_delay=60)
def every_night(day: str) -> None:
    """Make the digest of `day` and plan the next night.

    A task of OmniQ's own: they take what Django's have no words for, here a key that only one
    living task may hold.
    """
    make_digest.call(day)
    plan_night(date.fromisoformat(day) + timedelta(days=1))


def plan_night(day: date) -> None:
    """See to it that `day` is summed up in the night after it, once."""
    after = datetime.combine(day + timedelta(days=1), AT_NIGHT)
    with suppress(DuplicateTask):
        queue.enqueue(every_night, (day.isoformat(),), run_at=after, unique=f"night {day}")
