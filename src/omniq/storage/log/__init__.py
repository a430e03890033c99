"""The commit log: one engine for every place that can create a numbered segment only once."""
