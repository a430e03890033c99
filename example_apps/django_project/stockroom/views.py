"""Pages. What takes longer than a page may take is left to tasks."""

from datetime import date

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from omniq.contrib.django import queue
from omniq.models.status import Status

from .models import Digest, Movement, Product
from .samples import purchases
from .stock import NotEnough, move
from .tasks import deliver, make_digest, ring_up


@require_GET
def shelves(request: HttpRequest) -> HttpResponse:
    """What is there, what moved last, and the digests."""
    page = {
        "products": Product.objects.all(),
        "movements": Movement.objects.select_related("product")[:12],
        "digests": Digest.objects.all()[:14],
        "work": _work(),
    }
    return render(request, "stockroom/shelves.html", page)


@require_POST
def record(request: HttpRequest) -> HttpResponse:
    """One movement by hand."""
    try:
        made = move(
            int(request.POST["product"]),
            int(request.POST["quantity"]),
            request.POST.get("note", "")[:120],
        )
    except (NotEnough, ValidationError) as error:
        text = error.messages[0] if isinstance(error, ValidationError) else error
        messages.error(request, f"Nothing moved: {text}.")
    except (KeyError, ValueError, OverflowError, Product.DoesNotExist):
        messages.error(request, "Nothing moved: choose a product and give a whole number.")
    else:
        messages.success(request, f"Recorded: {made}.")
    return redirect("shelves")


@require_POST
def busy_day(request: HttpRequest) -> HttpResponse:
    """Sixty customers, each a task, and a delivery for whatever is low.

    All of them are enqueued in one transaction: either the whole day happens or none of it.
    """
    with transaction.atomic():
        sales = purchases(60)
        for product, pieces in sales:
            ring_up.enqueue(product, pieces)
        low = [product.pk for product in Product.objects.all() if product.is_low]
        for product in low:
            deliver.enqueue(product)
    messages.success(request, f"{len(sales)} customers and {len(low)} deliveries are on their way.")
    return redirect("shelves")


@require_POST
def make(request: HttpRequest) -> HttpResponse:
    """Today's digest, now."""
    today = timezone.localdate().isoformat()
    task = make_digest.using(priority=50).enqueue(today)
    messages.success(request, f"Today's digest is being made (task {task.id[-12:]}).")
    return redirect("shelves")


@require_GET
def digest(request: HttpRequest, day: str) -> HttpResponse:
    """One day."""
    try:
        found = get_object_or_404(Digest, day=date.fromisoformat(day))
    except ValueError:
        return HttpResponse("A day is written like 2026-11-22.", status=404)
    most = max((max(line["in"], line["out"]) for line in found.lines), default=0) or 1
    lines = [
        line | {"in_width": 100 * line["in"] / most, "out_width": 100 * line["out"] / most}
        for line in found.lines
    ]
    return render(request, "stockroom/digest.html", {"digest": found, "lines": lines})


@require_GET
def at_work(request: HttpRequest) -> JsonResponse:
    """How much the tasks have left, for the page's script."""
    return JsonResponse(_work())


def _work() -> dict[str, int]:
    counts = {"waiting": 0, "running": 0, "failed": 0, "done": 0}
    for each in queue.counts():
        if each.status is Status.RUNNING:
            counts["running"] += each.count
        elif each.status is Status.READY:
            counts["waiting"] += each.count
        elif each.status is Status.FAILED:
            counts["failed"] += each.count
        elif each.status is Status.SUCCEEDED:
            counts["done"] += each.count
    return counts
