"""The Django app that tests enqueue from."""
