"""The pages. A new one is a file with a controller, and an entry in `VIEWS` and `NAV` of app.py."""
