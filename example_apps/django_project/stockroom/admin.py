"""Products and their movements in Django's admin; tasks and workers come with OmniQ."""

from django.contrib import admin

from .models import Digest, Movement, Product


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ("name", "sku", "stock", "minimum", "warned_at")
    readonly_fields = ("stock", "warned_at")
    search_fields = ("name", "sku")


@admin.register(Movement)
class MovementAdmin(admin.ModelAdmin):
    list_display = ("at", "product", "quantity", "note")
    list_filter = ("product",)
    date_hierarchy = "at"

    def has_add_permission(self, request):
        return False  # a movement is made by stock.move, which keeps the shelf in step

    def has_change_permission(self, request, obj=None):
        return False


@admin.register(Digest)
class DigestAdmin(admin.ModelAdmin):
    list_display = ("day", "moved_in", "moved_out", "made_at")
