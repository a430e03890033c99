"""Litestar: `app = Litestar(plugins=[OmniQPlugin()])`."""

try:
    from omniq.contrib.litestar.placement import Placement
    from omniq.contrib.litestar.plugin import OmniQPlugin
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("litestar", "htpy", "datastar_py"):
        raise
    raise ModuleNotFoundError(
        f"OmniQPlugin needs {error.name}: pip install 'omniq-tasks[litestar]'", name=error.name
    ) from error

__all__ = ["OmniQPlugin", "Placement"]
