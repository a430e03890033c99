"""Values to bytes and back, functions to names and back, and the trust both need."""

from omniq.serialization.base import Binding, Call
from omniq.serialization.detector import SerializationDetector
from omniq.serialization.dill_ import DillSerializer
from omniq.serialization.functions import FUNCTIONS, FunctionRegistry, Ref
from omniq.serialization.manager import SerializationManager
from omniq.serialization.msgspec_ import MsgspecSerializer
from omniq.serialization.signing import KeyRing, private_dir
from omniq.serialization.text import is_secret, preview, redact

__all__ = [
    "FUNCTIONS",
    "Binding",
    "Call",
    "DillSerializer",
    "FunctionRegistry",
    "KeyRing",
    "MsgspecSerializer",
    "Ref",
    "SerializationDetector",
    "SerializationManager",
    "is_secret",
    "preview",
    "private_dir",
    "redact",
]
