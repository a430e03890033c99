"""Settings out of code, environment, files and constants, checked and explained."""

from omniq.config.env import EnvConfig
from omniq.config.loader import check_config, is_memory, load_config
from omniq.config.logging import LoggingConfig
from omniq.config.masking import mask_url
from omniq.config.options import OPTIONS, Option
from omniq.config.provider import ConfigProvider

__all__ = [
    "OPTIONS",
    "ConfigProvider",
    "EnvConfig",
    "LoggingConfig",
    "Option",
    "check_config",
    "is_memory",
    "load_config",
    "mask_url",
]
