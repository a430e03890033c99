"""Shelves to start with, and what people buy on a busy day."""

import random

from .models import Movement, Product
from .stock import move

SHELVES = (
    ("TEA-01", "Green tea, 100 g", 24),
    ("TEA-02", "Black tea, 100 g", 30),
    ("COF-01", "Coffee beans, 1 kg", 18),
    ("COF-02", "Filter papers", 40),
    ("BRD-01", "Rye bread", 20),
    ("JAM-01", "Apricot jam", 16),
    ("JAM-02", "Plum jam", 12),
    ("OIL-01", "Olive oil, 0.5 l", 14),
    ("SLT-01", "Sea salt", 25),
    ("SOP-01", "Olive soap", 22),
)


def fill_shelves() -> int:
    """Put the sample products on the shelves if there is nothing yet; gives how many."""
    if Product.objects.exists():
        return 0
    for sku, name, minimum in SHELVES:
        product = Product.objects.create(sku=sku, name=name, minimum=minimum)
        move(product.pk, 2 * minimum, "first delivery")
    return len(SHELVES)


def purchases(number: int) -> list[tuple[int, int]]:
    """What `number` customers take: (product, pieces). More of what sold before."""
    products = list(Product.objects.values_list("pk", flat=True))
    sold = Movement.objects.filter(quantity__lt=0).values_list("product_id", flat=True)
    liked = [*products, *sold[:20]]
    return [(random.choice(liked), random.randint(1, 5)) for _ in range(number)]
