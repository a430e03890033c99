"""The dashboard as a view of Django's."""
