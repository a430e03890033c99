"""A small album: upload pictures, watch tasks make thumbnails and a contact sheet.

    uvicorn example_apps.litestar_app.app:app

Everything runs in that one process: the pages, the queue (SQLite in `.omniq/`), its worker
and the dashboard at /omniq.
"""

from .web import create_app

app = create_app()
