"""The table of all options: one line says a setting's names, place, kind and meaning.

Everything else reads this table: keyword options, environment, files, checks, descriptions
and the page of the documentation.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from omniq.config import settings
from omniq.config.kinds import (
    BUNDLE,
    EVENT_LEVELS,
    EVENT_STORAGE_TYPES,
    FLAG,
    HOST,
    KEYS,
    LEVELS,
    LOG_LEVELS,
    MAPPING,
    NAME,
    NAMES,
    PATH,
    SECRET,
    STORAGE_TYPES,
    URL,
    WEB_PATH,
    WORKER_TYPES,
    Kind,
    Wrong,
    choice,
    number,
    seconds,
)
from omniq.errors import ConfigError

PREFIX: Final = "OMNIQ_"
_NOTHING: Final = ("", "none", "null")


class Option(Struct, frozen=True):
    """One setting. `path` is its place in OmniQConfig; `constant` its name in `settings`."""

    name: str
    constant: str
    path: str
    kind: Kind
    meaning: str
    optional: bool = False
    """None is a value: no limit, or "as something else says"."""

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.constant

    @property
    def default(self) -> Any:
        """The constant as it stands now."""
        return getattr(settings, self.constant)

    def read(self, value: Any, label: str) -> Any:
        """`value` in its right type. `label` is what it is called in an error."""
        if self.optional and (
            value is None or (isinstance(value, str) and value.strip().lower() in _NOTHING)
        ):
            return None
        try:
            return self.kind.read(value)
        except Wrong as wrong:
            given = "" if self.kind.secret else f"={_short(value)}"
            none = ", or none" if self.optional else ""
            it = f"{wrong.hint} It" if wrong.hint else ": it"
            raise ConfigError(
                f"{label}{given} is not right{it} takes {wrong}{none}, "
                f"for example {label}={self.kind.example}"
            ) from None


def _short(value: Any) -> str:
    plain = isinstance(value, str | int | float | bool | list | tuple | dict | None)
    text = repr(value) if plain else f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:79] + "…"


_STORAGE = choice(*STORAGE_TYPES, example="sqlite")
_EVENTS = choice(*EVENT_STORAGE_TYPES, example="jsonl")
_DURABILITY = choice("normal", "strict", example="strict")
_SLOTS = number(least=1, most=100_000, example=10)
_SECONDS = seconds()

OPTIONS: Final = (
    Option("base_dir", "BASE_DIR", "base_dir", PATH, "Where local files are kept: the SQLite database, the key file, the dashboard's token."),
    Option("namespace", "NAMESPACE", "namespace", NAME, "Keeps installations apart that share one place."),
    Option("storage_type", "STORAGE_TYPE", "storage.type", _STORAGE, "Where tasks, results and events are kept."),
    Option("storage_url", "STORAGE_URL", "storage.url", URL, "The same as a URL, which says the type too.", True),
    Option("storage_options", "STORAGE_OPTIONS", "storage.options", MAPPING, "Further options of the storage: see its table in storages.md."),
    Option("obstore_uri", "OBSTORE_URI", "storage.obstore_uri", URL, "File storage kept by obstore at this URI, for example `s3://bucket/path`.", True),
    Option("durability", "DURABILITY", "durability", _DURABILITY, "What to do with a place whose settings would lose acknowledged tasks with its machine: `normal` warns, `strict` refuses to open it."),
    Option("task_queue_type", "TASK_QUEUE_TYPE", "task_queue.type", _STORAGE, "Where tasks are kept, if not with everything else; wins over the storage type.", True),
    Option("task_queue_url", "TASK_QUEUE_URL", "task_queue.url", URL, "The same as a URL, which says the type too.", True),
    Option("result_storage_type", "RESULT_STORAGE_TYPE", "result_storage.type", _STORAGE, "Where results are kept, if not with everything else; wins over the storage type.", True),
    Option("result_storage_url", "RESULT_STORAGE_URL", "result_storage.url", URL, "The same as a URL, which says the type too.", True),
    Option("event_storage_type", "EVENT_STORAGE_TYPE", "event_storage.type", _EVENTS, "Where events are kept, if not with everything else; wins over the storage type.", True),
    Option("event_storage_url", "EVENT_STORAGE_URL", "event_storage.url", URL, "The same as a URL, which says the type too.", True),
    Option("signing_keys", "SIGNING_KEYS", "signing_keys", KEYS, "Keys that sign payloads: the first signs, all verify. A secret has at least 32 bytes; `base64:` before it gives bytes. Empty: a key file in the base directory, for places on this machine only."),
    Option("default_queue", "DEFAULT_QUEUE", "tasks.queue", NAME, "The queue of tasks that name none."),
    Option("default_priority", "DEFAULT_PRIORITY", "tasks.priority", number(least=-(2**31) - 1, example=5), "The priority of tasks that name none; higher goes first."),
    Option("timeout", "TASK_TIMEOUT", "tasks.timeout", _SECONDS, "How long one run of a task may take.", True),
    Option("ttl", "TASK_TTL", "tasks.ttl", _SECONDS, "How long a task may wait for its start before it expires.", True),
    Option("retries", "RETRY_ATTEMPTS", "tasks.retries", number(least=0, most=1_000_000, example=3), "Retries after the first attempt."),
    Option("retry_delay", "RETRY_DELAY", "tasks.retry_delay", seconds(zero=True, example="1"), "Delay before the first retry; it doubles from one to the next."),
    Option("result_ttl", "RESULT_TTL", "tasks.result_ttl", seconds(example="86400"), "How long a result is kept; none: as long as its task.", True),
    Option("max_payload", "MAX_PAYLOAD", "tasks.max_payload", number(least=1, example=1_048_576), "Arguments or a result of more bytes are refused."),
    Option("embedded", "EMBEDDED", "worker.embedded", FLAG, "The process that enqueues also works."),
    Option("worker_type", "DEFAULT_WORKER", "worker.default", choice(*WORKER_TYPES, example="thread"), "The lane of tasks that name none; none: coroutine functions async, plain ones thread.", True),
    Option("max_workers", "MAX_WORKERS", "worker.max_workers", _SLOTS, "How many tasks the default lane runs at once; none: as the lane's own setting says.", True),
    Option("async_workers", "ASYNC_WORKERS", "worker.async_workers", _SLOTS, "How many tasks the async lane runs at once."),
    Option("thread_workers", "THREAD_WORKERS", "worker.thread_workers", _SLOTS, "How many tasks the thread lane runs at once."),
    Option("process_workers", "PROCESS_WORKERS", "worker.process_workers", _SLOTS, "How many tasks the process lane runs at once; none: one per processor.", True),
    Option("gevent_workers", "GEVENT_WORKERS", "worker.gevent_workers", _SLOTS, "How many tasks the gevent lane runs at once."),
    Option("queues", "QUEUES", "worker.queues", NAMES, "The queues a worker serves; empty: all."),
    Option("lease", "LEASE", "worker.lease", _SECONDS, "After so long without a heartbeat a worker's tasks are given to others."),
    Option("grace", "GRACE", "worker.grace", seconds(zero=True, example="10"), "How long running tasks may go on when a stop is asked."),
    Option("max_losses", "MAX_LOSSES", "worker.max_losses", number(least=1, example=3), "A task whose worker died this often fails."),
    Option("event_level", "EVENT_LEVEL", "events.level", choice(*EVENT_LEVELS, example="INFO", upper=True), "The least important events that are kept."),
    Option("event_retention", "EVENT_RETENTION", "events.retention", seconds(example="604800"), "How long events are kept."),
    Option("event_spool_limit", "EVENT_SPOOL_LIMIT", "events.spool_limit", number(least=0, example=67_108_864), "Bytes of events kept in local files while a place of their own does not answer; beyond it tasks wait for that place."),
    Option("history", "HISTORY", "retention.history", seconds(zero=True, example="86400"), "How long ended tasks stay visible."),
    Option("dead_letters", "DEAD_LETTERS", "retention.dead", seconds(zero=True, example="1209600"), "How long failed tasks are kept for replay."),
    Option("dashboard_enabled", "DASHBOARD_ENABLED", "dashboard.enabled", FLAG, "Whether web apps mount the dashboard."),
    Option("dashboard_host", "DASHBOARD_HOST", "dashboard.host", HOST, "The address of the stand-alone dashboard."),
    Option("dashboard_port", "DASHBOARD_PORT", "dashboard.port", number(least=1, most=65_535, example=8778), "The port of the stand-alone dashboard."),
    Option("dashboard_path", "DASHBOARD_PATH", "dashboard.path", WEB_PATH, "Where a web app shows the dashboard."),
    Option("dashboard_token", "DASHBOARD_TOKEN", "dashboard.token", SECRET, "What opens the dashboard; none: one is made once in the base directory.", True),
    Option("dashboard_read_only", "DASHBOARD_READ_ONLY", "dashboard.read_only", FLAG, "The dashboard shows, but changes nothing."),
    Option("dashboard_live", "DASHBOARD_LIVE", "dashboard.live", choice("stream", "poll", "off", example="poll"), "How open pages learn what is new: by a stream each; by short requests every few seconds, for servers and proxies that hold streams back; or not at all."),
    Option("dashboard_bundle", "DASHBOARD_BUNDLE", "dashboard.bundle", BUNDLE, "URL of the official Datastar bundle, in place of OmniQ's own module.", True),
    Option("log_level", "LOG_LEVEL", "logging.level", choice(*LEVELS, example="INFO", upper=True), "The level of the `omniq` logger; the root logger is never touched."),
    Option("disable_logging", "DISABLE_LOGGING", "logging.disabled", FLAG, "No log lines at all."),
    Option("component_log_levels", "COMPONENT_LOG_LEVELS", "logging.components", LOG_LEVELS, "Levels of single components, for example of `omniq.storage`."),
)  # fmt: skip
"""Every option, in the order of the documentation."""

BY_NAME: Final = {option.name: option for option in OPTIONS}
BY_PATH: Final = {option.path: option for option in OPTIONS}
BY_VARIABLE: Final = {option.variable: option for option in OPTIONS}
SECTIONS: Final = frozenset(path.partition(".")[0] for path in BY_PATH if "." in path)
