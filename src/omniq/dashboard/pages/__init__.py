"""The pages. A new one is a file with a controller, and one line here."""
