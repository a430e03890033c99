"""The dashboard: a Litestar app of plain pages that update themselves."""

from omniq.dashboard.app import DashboardApp, DashboardRouter, dashboard_router
from omniq.dashboard.auth import Principal
from omniq.dashboard.mount import mounted
from omniq.dashboard.pages.overview import MetricsViews
from omniq.dashboard.pages.tasks import TaskViews

__all__ = [
    "DashboardApp",
    "DashboardRouter",
    "MetricsViews",
    "Principal",
    "TaskViews",
    "dashboard_router",
    "mounted",
]
