"""Litestar: `app = Litestar(plugins=[OmniQPlugin()])`."""

from omniq.contrib.litestar.placement import Placement
from omniq.contrib.litestar.plugin import OmniQPlugin

__all__ = ["OmniQPlugin", "Placement"]
