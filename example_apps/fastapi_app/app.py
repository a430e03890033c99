"""The ledger desk: upload a CSV, watch it being read, open its report, find the mail.

    uvicorn example_apps.fastapi_app.app:app

Everything runs in that one process: the pages, the queue (SQLite in `.omniq/`), its worker
and the dashboard at /omniq.
"""

from .web import create_app

app = create_app()
