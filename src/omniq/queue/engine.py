"""Between what people say and what is stored: tasks become units, rows become calls and results.

Pure work on values: no storage is touched here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from copy import copy
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.errors import FunctionNotFound, InvalidTask, NotStarted, UnknownOption
from omniq.events.gate import EventGate
from omniq.models.config import OmniQConfig
from omniq.models.event import TaskEvent
from omniq.models.info import Shown, TaskInfo
from omniq.models.outcome import Outcome
from omniq.models.result import TaskResult
from omniq.models.row import Ms, ResultRow, TaskRow
from omniq.models.status import EventType, Status
from omniq.models.task import (
    EnqueueOptions,
    RetryPolicy,
    Task,
    TaskBody,
    WorkerKind,
)
from omniq.models.units import Insert, Move, PutDoc
from omniq.queue import checks, policy
from omniq.queue.options import TaskOptions
from omniq.serialization import (
    FUNCTIONS,
    Binding,
    Call,
    FunctionRegistry,
    Ref,
    SerializationManager,
)

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode
_BODY = msgspec.msgpack.Decoder(TaskBody)
_NO_OPTIONS = TaskOptions()
_READY = Status.READY


class Loaded(Struct, frozen=True, gc=False):
    """A call ready to be made."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    is_async: bool


Around = Callable[[Loaded], Loaded]
"""Puts something around a call: fills in arguments, cleans up behind it. What it gives is called
where the task's own function would be, in the same thread or asyncio task, so `is_async` stays
as it is unless the new function really is of the other kind."""


class Plan(Struct, frozen=True, kw_only=True):
    """A function's own options on top of the configuration, worked out once."""

    ref: Ref
    queue: str
    lane: WorkerKind
    priority: int
    ttl: float | None
    timeout: float | None
    result_ttl: float | None
    retry: RetryPolicy | None
    tags: tuple[str, ...]


class Engine:
    """Knows the configuration, the serializers and the functions; `client` is this process."""

    def __init__(
        self,
        config: OmniQConfig,
        manager: SerializationManager,
        *,
        client: str,
        registry: FunctionRegistry = FUNCTIONS,
        clock: Clock = SYSTEM_CLOCK,
        around: Sequence[Around] = (),
    ) -> None:
        self.config, self.manager, self.registry = config, manager, registry
        self.client, self.clock, self._around = client, clock, around
        self.events = EventGate(config.events.level, config.events.retention)
        defaults = config.tasks
        self.rules = policy.Rules(
            events=self.events,
            retry=RetryPolicy(retries=defaults.retries, delay=defaults.retry_delay),
            history=round(config.retention.history * 1000),
            dead=round(config.retention.dead * 1000),
            max_losses=config.worker.max_losses,
        )
        self._namespace = config.namespace
        self._names: set[str] = set()
        self._plans: dict[str, Plan] = {}

    def without(self, around: Around) -> Engine:
        """The same rules with one thing less around calls."""
        other = copy(self)
        other._around = [each for each in self._around if each is not around]
        return other

    # -- from a task to its insert -------------------------------------------------------

    def insert(self, task: Task, now: Ms | None = None) -> Insert:
        """The unit that stores a task; raises InvalidTask and SerializationError.

        `now`: when it is created, if others are created with it.
        """
        ref = self.registry.refer(task.func)
        plan = self._plans.get(ref.name)
        if plan is None or plan.ref is not ref:
            plan = self._plans[ref.name] = self._plan(ref)
        queue = plan.queue if task.queue is UNSET else self._name(task.queue)
        now = self.clock.now() if now is None else now
        ttl = plan.ttl if task.ttl is UNSET else checks.seconds(task.ttl, "ttl")
        args, kwargs = tuple(task.args), task.kwargs
        payload = self.manager.plain_payload(args, kwargs, ref) or self.manager.encode_call(
            args, kwargs, Binding(self._namespace, queue, task.id, "args", ref.name), ref
        )
        body = TaskBody(
            payload,
            plan.timeout if task.timeout is UNSET else checks.timeout(task.timeout),
            plan.retry if task.retries is UNSET else self._retry(task.retries, plan.retry),
            (
                plan.result_ttl
                if task.result_ttl is UNSET
                else checks.seconds(task.result_ttl, "result_ttl")
            ),
            checks.plain_metadata(task.metadata),
        )
        plain = task.delay is None and task.run_at is None
        row = TaskRow(
            id=str.__str__(task.id),
            queue=queue,
            lane=plan.lane if task.worker is UNSET else checks.lane_kind(task.worker),
            name=ref.name,
            status=_READY,
            priority=plan.priority if task.priority is UNSET else checks.priority(task.priority),
            run_at=now if plain else checks.run_at(task, now),
            created_at=now,
            expires_at=None if ttl is None else now + round(ttl * 1000),
            unique=checks.unique_key(task.unique),
            tags=plan.tags if isinstance(task.tags, UnsetType) else checks.tag_names(task.tags),
            reply=self.client,
            body=_encode(body),
            preview=self.manager.preview(args, kwargs),
        )
        return Insert(
            row,
            checks.parents(task.depends_on) if task.depends_on else (),
            (self._enqueued(row, now),) if self.events.enqueued else (),
        )

    def _plan(self, ref: Ref) -> Plan:
        """What a function's tasks get that say nothing themselves."""
        own = ref.options if isinstance(ref.options, TaskOptions) else _NO_OPTIONS
        defaults, lane = self.config.tasks, self.config.worker.default
        retry = own.retry_policy(self.rules.retry)
        if own.worker is not UNSET:
            lane = checks.lane_kind(own.worker)
        return Plan(
            ref=ref,
            queue=self._name(_first(own.queue, defaults.queue)),
            lane=lane or ("async" if is_async(ref.func) else "thread"),
            priority=checks.priority(_first(own.priority, defaults.priority)),
            ttl=checks.seconds(_first(own.ttl, defaults.ttl), "ttl"),
            timeout=checks.timeout(_first(own.timeout, defaults.timeout)),
            result_ttl=checks.seconds(_first(own.result_ttl, defaults.result_ttl), "result_ttl"),
            retry=None if retry is None else checks.sound_policy(retry),
            tags=checks.tag_names(_first(own.tags, ())),
        )

    def _enqueued(self, row: TaskRow, now: Ms) -> TaskEvent:
        return TaskEvent(
            task=row.id,
            at=now,
            type=EventType.SCHEDULED if row.run_at > now else EventType.ENQUEUED,
            queue=row.queue,
            name=row.name,
            keep_until=now + self.events.retention,
        )

    def _name(self, queue: Any) -> str:
        if not isinstance(queue, str) or queue not in self._names:
            queue = checks.queue_name(queue)
            self._names.add(queue)
        return str.__str__(queue)

    def _retry(self, retries: int | RetryPolicy, own: RetryPolicy | None) -> RetryPolicy:
        if isinstance(retries, RetryPolicy):
            return checks.sound_policy(retries)
        base = own or self.rules.retry
        return msgspec.structs.replace(base, retries=checks.retries(retries))

    # -- from a row to its call, and back ------------------------------------------------

    def body(self, row: TaskRow) -> TaskBody:
        """Open a row's body."""
        return _BODY.decode(row.body)

    def load(self, row: TaskRow, payload: bytes) -> Loaded:
        """The function and its arguments; raises FunctionNotFound and SerializationError.

        Called where the function will run: there it finds this engine as `engine_here()`.
        """
        _here.set(self)
        loaded = self._loaded(row, payload)
        for around in self._around:
            loaded = around(loaded)
        return loaded

    def _loaded(self, row: TaskRow, payload: bytes) -> Loaded:
        plain = self.manager.plain_call(payload)
        if plain is not None:
            func = self.registry.resolve(row.name)
            return Loaded(func, plain[0], plain[1], is_async(func))
        binding = Binding(self._namespace, row.queue, row.id, "args", row.name)
        call = self.manager.decode_call(payload, binding)
        func = call.func or self.registry.resolve(row.name, signed=call.signed)
        return Loaded(func, call.args, call.kwargs, is_async(func))

    def unknown(self, row: TaskRow, payload: bytes) -> str:
        """Why no lane here would find the row's function; "": one would, or fail otherwise.

        It is looked for as a lane does, so what is signed may be imported.
        """
        try:
            self._loaded(row, payload)
        except FunctionNotFound as error:
            return str(error)
        except (Exception, SystemExit):  # of a module or of arguments: that ends the task
            pass
        return ""

    def dump(self, row: TaskRow, value: Any) -> bytes:
        """Encode a result for the epoch it was made in."""
        return self.manager.plain_value(value) or self.manager.encode_value(
            value, self._result_binding(row)
        )

    def settle(self, row: TaskRow, body: TaskBody, outcome: Outcome) -> Move:
        return policy.settle(row, body, outcome, self.clock.now(), self.rules)

    # -- from rows to answers ------------------------------------------------------------

    def call(self, row: TaskRow, body: TaskBody) -> Call:
        """The arguments as they were given, and whether the call was signed; imports nothing."""
        binding = Binding(self._namespace, row.queue, row.id, "args", row.name)
        return self.manager.decode_call(body.payload, binding)

    def value(self, row: TaskRow, result: ResultRow) -> Any:
        """Decode a result."""
        return self.manager.decode_value(result.value, self._result_binding(row))

    def result(self, row: TaskRow, result: ResultRow | None) -> TaskResult:
        """What a row says about its result."""
        errors = policy.errors_of(row)
        success = row.status is Status.SUCCEEDED and result is not None
        return TaskResult(
            id=row.id,
            status=row.status.result,
            value=self.value(row, result) if success and result is not None else None,
            error=errors[-1] if errors and row.status is Status.FAILED else None,
            enqueued_at=_datetime(row.created_at),
            started_at=_datetime(row.started_at),
            finished_at=_datetime(row.finished_at),
            expires_at=_datetime(result.until) if result else None,
            attempt=row.attempt,
            worker=row.owner,
            progress=_decode(row.progress) if row.progress else None,
        )

    def info(self, row: TaskRow, result: ResultRow | None) -> TaskInfo:
        """Everything about a row, opened as far as is safe to look at."""
        body = self.body(row)
        shown: Shown | None = None
        if result is not None:
            shown = self.manager.show(result.value, field="result")
        return TaskInfo(
            row=row,
            arguments=self.manager.show(body.payload, field="args"),
            result=shown,
            errors=tuple(policy.errors_of(row)),
            metadata=body.metadata or {},
            timeout=body.timeout,
            retry=body.retry or self.rules.retry,
            progress=_decode(row.progress) if row.progress else None,
        )

    def _result_binding(self, row: TaskRow) -> Binding:
        return Binding(self._namespace, row.queue, row.id, "result", row.name, row.epoch)


_here: ContextVar[Engine] = ContextVar("omniq_engine")


def engine_here() -> Engine:
    """The engine that loaded the running task, for what wraps calls."""
    try:
        return _here.get()
    except LookupError:
        raise NotStarted("engine_here() is for code that runs inside a task") from None


def is_async(func: object) -> bool:
    """Whether calling `func` gives a coroutine."""
    code = getattr(func, "__code__", None)
    if code is not None and not vars(func):  # a function that nothing is wrapped around
        return bool(code.co_flags & inspect.CO_COROUTINE)
    func = inspect.unwrap(func) if callable(func) else func
    while hasattr(func, "func"):  # functools.partial
        func = func.func
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(
        getattr(func, "__call__", None)  # noqa: B004 - an object whose call is a coroutine
    )


def _first(own: Any, default: Any) -> Any:
    return default if own is UNSET else own


def _datetime(ms: Ms | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)


def task_from(
    func: Any, args: Any, kwargs: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> Task:
    """A Task from the arguments of `enqueue`, with errors that say what was meant."""
    if isinstance(func, Task):
        if args or kwargs or options:
            raise InvalidTask("enqueue(Task(...)) takes nothing besides: set it on the Task")
        return checked(func)
    if not isinstance(args, tuple | list):
        raise InvalidTask(
            f"args must be a tuple, not {type(args).__name__}: for a single argument write "
            "enqueue(f, args=(value,))"
        )
    try:
        task = Task(func=func, args=tuple(args), kwargs=kwargs or {}, **options)
        return checked(task) if kwargs or "id" in options else task
    except TypeError:
        for name in options:
            if name not in EnqueueOptions.__annotations__:
                raise UnknownOption(
                    name, EnqueueOptions.__annotations__, where="enqueue()"
                ) from None
        raise


def announcement(queue: str) -> PutDoc:
    """A queue's name, left in the store for workers that serve every queue.

    To be stored before its first task: one whose queue nobody knows would wait for ever.
    """
    return PutDoc(kind="queue", key=queue, value=b"", expect=0)


def checked(task: Task) -> Task:
    """A task whose id may have been chosen by hand: ids are uuid7 everywhere."""
    checks.sound_task(task)
    return task
