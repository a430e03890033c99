"""Testing help: run tasks at once, look at what was enqueued, work off a queue by hand.

Everything takes an `AsyncOmniQ` or an `OmniQ`, also one that belongs to an app. With the first,
what takes time is awaited; with the second it blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniq._lazy import lazy

if TYPE_CHECKING:
    from omniq._records import Drained as Drained
    from omniq._records import Enqueued as Enqueued
    from omniq._records import TaskRun as TaskRun
    from omniq.clock import ManualClock as ManualClock
    from omniq.testing.asserts import assert_enqueued as assert_enqueued
    from omniq.testing.asserts import assert_nothing_enqueued as assert_nothing_enqueued
    from omniq.testing.asserts import enqueued as enqueued
    from omniq.testing.drains import drain as drain
    from omniq.testing.drains import run_until_empty as run_until_empty
    from omniq.testing.drains import worker_running as worker_running
    from omniq.testing.modes import collecting as collecting
    from omniq.testing.modes import eager as eager
else:
    # The plugin is loaded by every pytest run of an environment, so nothing may come with it.
    __getattr__, __dir__, __all__ = lazy(
        __name__,
        {
            "Drained": "omniq._records",
            "Enqueued": "omniq._records",
            "ManualClock": "omniq.clock",
            "TaskRun": "omniq._records",
            "assert_enqueued": "omniq.testing.asserts",
            "assert_nothing_enqueued": "omniq.testing.asserts",
            "collecting": "omniq.testing.modes",
            "drain": "omniq.testing.drains",
            "eager": "omniq.testing.modes",
            "enqueued": "omniq.testing.asserts",
            "run_until_empty": "omniq.testing.drains",
            "worker_running": "omniq.testing.drains",
        },
    )
