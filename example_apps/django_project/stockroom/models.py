"""Products on shelves, what moved, and what was made of it overnight."""

from django.db import models
from django.urls import reverse
from django.utils import timezone


class Product(models.Model):
    """Something on a shelf. `stock` is what is there now, `minimum` what should be."""

    sku = models.CharField("number", max_length=20, unique=True)
    name = models.CharField(max_length=80)
    stock = models.PositiveIntegerField(default=0)
    minimum = models.PositiveIntegerField(default=0)
    warned_at = models.DateTimeField("warned", null=True, blank=True, editable=False)
    """When the office was told that there is too little; None once there is enough again."""

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(condition=models.Q(stock__gte=0), name="stock_not_negative"),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def is_low(self) -> bool:
        return self.stock < self.minimum

    @property
    def fill(self) -> int:
        """How full the shelf is, in hundredths of twice the minimum: for the bar on the page."""
        return min(100, round(50 * self.stock / self.minimum)) if self.minimum else 100


class Movement(models.Model):
    """So many pieces came in (positive) or went out (negative)."""

    product = models.ForeignKey(Product, models.CASCADE, related_name="movements")
    quantity = models.IntegerField()
    note = models.CharField(max_length=120, blank=True)
    at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        ordering = ("-at", "-id")

    def __str__(self) -> str:
        return f"{self.quantity:+d} {self.product}"


class Digest(models.Model):
    """What happened on one day, as the nightly task told it."""

    day = models.DateField(unique=True)
    made_at = models.DateTimeField(default=timezone.now)
    moved_in = models.PositiveIntegerField(default=0)
    moved_out = models.PositiveIntegerField(default=0)
    lines = models.JSONField(default=list)
    """One `{"name", "sku", "in", "out", "stock", "minimum"}` for each product that moved."""

    class Meta:
        ordering = ("-day",)

    def __str__(self) -> str:
        return f"Digest of {self.day}"

    def get_absolute_url(self) -> str:
        return reverse("digest", args=[self.day.isoformat()])
