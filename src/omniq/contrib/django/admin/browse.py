"""Lists of tasks and workers for the admin, read from the queue a page at a time.

The admin's own lists count and slice a queryset. Here a page is read behind the last row of the
one before, so the millionth task is as near as the first; and no row costs a question of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self, TypeVar

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from msgspec.structs import replace

from omniq.contrib.django.faces import queue
from omniq.contrib.django.models import Task
from omniq.errors import OmniQError, TaskNotFound
from omniq.ids import is_task_id
from omniq.models.filters import QueueCount, TaskFilter
from omniq.models.info import TaskList
from omniq.models.row import TaskRow
from omniq.models.status import Status
from omniq.models.worker import MinuteMetric, WorkerCard

T = TypeVar("T")
TROUBLE = (OmniQError, DatabaseError, ImproperlyConfigured)
"""What keeps the store from answering; told as a message, never as a traceback."""
PAGE = 50
SAMPLE = 500
"""How many of the newest failed tasks are looked at to tell what fails."""
TRAIL = 30
"""How many pages back the link to newer ones remembers."""
MATCHING = 1000
"""How many tasks one action on all that match takes at most."""


class Reads:
    """What one request reads of the queue: each question once, none after one that failed."""

    def __init__(self) -> None:
        self._answers: dict[object, Any] = {}
        self.trouble: Exception | None = None

    @classmethod
    def of(cls, request: HttpRequest) -> Self:
        found: Self | None = getattr(request, "_omniq_reads", None)
        if found is None:
            found = request._omniq_reads = cls()  # type: ignore[attr-defined]
        return found

    def _once(self, key: object, ask: Callable[[], T], otherwise: T) -> T:
        if key not in self._answers:
            if self.trouble is not None:
                return otherwise
            try:
                self._answers[key] = ask()
            except TROUBLE as error:
                self.trouble = error
                return otherwise
        answer: T = self._answers[key]
        return answer

    def counts(self) -> list[QueueCount]:
        return self._once("counts", queue.counts, [])

    def workers(self) -> list[WorkerCard]:
        return self._once("workers", queue.workers, [])

    def names(self) -> set[str]:
        """The names of tasks that ran within the last hour."""
        metrics: list[MinuteMetric] = self._once("metrics", lambda: queue.metrics(60), [])
        return {item.name for metric in metrics for item in metric.items}

    def failed(self) -> list[TaskRow]:
        """The newest failed tasks, a bounded number of them."""
        asked = TaskFilter(statuses=(Status.FAILED,))
        return self._once("failed", lambda: queue.find(asked, limit=SAMPLE).tasks, [])

    def find(self, asked: TaskFilter, cursor: str | None) -> TaskList:
        key = ("find", repr(asked), cursor)
        return self._once(
            key, lambda: queue.find(asked, limit=PAGE, cursor=cursor), TaskList([], None)
        )

    def one(self, id: str) -> TaskRow | None:
        def ask() -> TaskRow | None:
            try:
                return queue.info(id).row
            except TaskNotFound:
                return None

        return self._once(("one", id), ask, None)


class Rows:
    """The tasks that match, where the admin expects a queryset: what an action is given."""

    def __init__(self, model: type[Task], asked: TaskFilter, *, ids: Iterable[str] | None = None):
        self.model, self.asked = model, asked
        self.ids = None if ids is None else list(dict.fromkeys(ids))
        self.known: dict[str, Task] = {}

    def filter(self, *, pk__in: Sequence[str]) -> Rows:
        """Those selected on the page."""
        chosen = Rows(self.model, self.asked, ids=filter(is_task_id, pk__in))
        chosen.known = self.known
        return chosen

    def __iter__(self) -> Iterator[Task]:
        if self.ids is not None:
            for id in self.ids:
                yield self.known.get(id) or self.model(id=id, name="")
            return
        cursor, left = None, MATCHING
        while left > 0:
            page = queue.find(self.asked, limit=min(left, 500), cursor=cursor)
            yield from map(self.model.of, page.tasks)
            left -= len(page.tasks)
            cursor = page.cursor
            if cursor is None:
                return


class TaskChangeList(ChangeList):
    """A page of tasks. `after` says behind which row it starts, `trail` how it was come to."""

    model: Any

    def get_filters_params(self, params: Any = None) -> Any:
        found = super().get_filters_params(params)
        for own in ("after", "trail"):
            found.pop(own, None)
        return found

    def get_query_string(self, new_params: Any = None, remove: Any = None) -> str:
        """Another filter or order starts at the first page again."""
        fresh = {"after": None, "trail": None} | dict(new_params or {})
        return super().get_query_string(fresh, remove)

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        found = self.get_filters(request)
        self.filter_specs, self.has_filters, rest, _may, self.has_active_filters = found
        if rest:
            raise IncorrectLookupParameters(f"tasks cannot be filtered by {', '.join(rest)}")
        self.clear_all_filters_qs = self.get_query_string(remove=self.get_filters_params())
        asked = self.model_admin.base_filter  # type: ignore[attr-defined]
        for spec in self.filter_specs:
            if isinstance(spec, StoreFilter):
                asked = spec.narrowed(asked)
        columns = self.get_ordering_field_columns()
        place = list(self.list_display).index("created")
        return Rows(self.model, replace(asked, oldest_first=columns.get(place) == "asc"))

    def get_results(self, request: HttpRequest) -> None:
        reads, rows = Reads.of(request), self.queryset
        assert isinstance(rows, Rows)
        after, text = self.params.get("after") or "", self.query.strip()
        if is_task_id(text.lower()):
            row = reads.one(text.lower())
            page = TaskList([row] if row else [], None)
        else:
            if text:
                named = replace(rows.asked, names=(text,))
                by_name = reads.find(named, None).tasks
                rows.asked = named if by_name else replace(rows.asked, text=text)
            page = reads.find(rows.asked, after or None)
        if reads.trouble is not None:
            messages.error(request, unanswered(reads.trouble))
        self.result_list = [self.model.of(row) for row in page.tasks]
        rows.known = {task.id: task for task in self.result_list}
        self.total = _total(rows.asked, reads)
        self.newer, self.older = self._beside(after, page.cursor)
        self.result_count = len(self.result_list) if self.total is None else self.total
        narrowed = bool(self.query or self.has_active_filters)
        paged = self.newer or self.older
        self.full_result_count = None if narrowed and not paged else self.result_count
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = bool(self.result_list)
        self.paginator = None

    def _beside(self, after: str, cursor: str | None) -> tuple[str | None, str | None]:
        """Links to the newer and the older page: cursors lead one way, so the way is kept."""
        trail = [one for one in (self.params.get("trail") or "").split("~") if one]
        newer = older = None
        if after:
            back = {"after": trail[-1] if trail else None, "trail": "~".join(trail[:-1]) or None}
            newer = self.get_query_string(back)
        if cursor:
            way = [*trail, after][-TRAIL:] if after else trail
            older = self.get_query_string({"after": cursor, "trail": "~".join(way) or None})
        return newer, older


class StoreFilter(admin.SimpleListFilter):
    """A filter the store answers. Its value goes into the question, not into a queryset."""

    def narrowed(self, asked: TaskFilter) -> TaskFilter:
        """`asked` with what was chosen here."""
        value = self.value()
        return self.narrow(asked, value) if value else asked

    def narrow(self, asked: TaskFilter, value: str) -> TaskFilter:
        raise NotImplementedError

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset

    def has_output(self) -> bool:
        return bool(self.lookup_choices) or self.value() is not None


def _numbered(label: object, number: int) -> str:
    return f"{label} ({number})"


class ByStatus(StoreFilter):
    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        held: dict[int, int] = {}
        for one in Reads.of(request).counts():
            held[one.status] = held.get(one.status, 0) + one.count
        chosen = request.GET.get(self.parameter_name)
        return [
            (str(value), _numbered(label, held.get(value, 0)))
            for value, label in Task.Status.choices
            if held.get(value) or str(value) == chosen
        ]

    def narrow(self, asked: TaskFilter, value: str) -> TaskFilter:
        known = {str(int(status)): status for status in Status}
        if value not in known:
            raise IncorrectLookupParameters(f"there is no status {value!r}")
        return replace(asked, statuses=(known[value],))


class ByQueue(StoreFilter):
    title = _("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        wanted = model_admin.base_filter.statuses
        held: dict[str, int] = {}
        for one in Reads.of(request).counts():
            if not wanted or one.status in wanted:
                held[one.queue] = held.get(one.queue, 0) + one.count
        return [(name, _numbered(name, held[name])) for name in sorted(held) if held[name]]

    def narrow(self, asked: TaskFilter, value: str) -> TaskFilter:
        return replace(asked, queues=(value,))


class ByName(StoreFilter):
    title = _("task")
    parameter_name = "name"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = request.GET.get(self.parameter_name)
        names = Reads.of(request).names() | ({chosen} if chosen else set())
        return [(name, name) for name in sorted(names)[:100]]

    def narrow(self, asked: TaskFilter, value: str) -> TaskFilter:
        return replace(asked, names=(value,))


class ByWorker(StoreFilter):
    title = _("worker")
    parameter_name = "worker"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        found = {
            one.id: f"{one.host.partition('/')[0]} · {one.pid}"
            for one in Reads.of(request).workers()
        }
        chosen = request.GET.get(self.parameter_name)
        if chosen:
            found.setdefault(chosen, f"…{chosen[-10:]}")
        return sorted(found.items(), key=lambda pair: pair[1])

    def narrow(self, asked: TaskFilter, value: str) -> TaskFilter:
        return replace(asked, owner=value)


class _OfFailed(StoreFilter):
    """A filter of failed tasks: its choices with how often each is among the newest."""

    field = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        often: dict[str, int] = {}
        for row in Reads.of(request).failed():
            value = getattr(row, self.field) or ""
            often[value] = often.get(value, 0) + 1
        ranked = sorted(often.items(), key=lambda pair: (-pair[1], pair[0]))
        return [
            (value, _numbered(value.removeprefix("builtins."), number))
            for value, number in ranked[:30]
            if value
        ]


class ByError(_OfFailed):
    title = _("error")
    parameter_name = "error"
    field = "fault"

    def narrow(self, asked: TaskFilter, value: str) -> TaskFilter:
        return replace(asked, fault=value)


class ByFailedName(_OfFailed):
    title = _("task")
    parameter_name = "name"
    field = "name"

    def narrow(self, asked: TaskFilter, value: str) -> TaskFilter:
        return replace(asked, names=(value,))


class WorkerChangeList(ChangeList):
    """All workers; they are few."""

    model: Any

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        found = self.get_filters(request)
        self.filter_specs, self.has_filters, rest, _may, self.has_active_filters = found
        if rest:
            raise IncorrectLookupParameters("workers cannot be filtered")
        return self.root_queryset

    def get_results(self, request: HttpRequest) -> None:
        reads = Reads.of(request)
        cards = sorted(reads.workers(), key=lambda one: (one.stopping, one.started_at))
        if reads.trouble is not None:
            messages.error(request, unanswered(reads.trouble))
        self.result_list = [self.model.of(card) for card in cards]
        self.newer = self.older = None
        self.total = self.result_count = self.full_result_count = len(cards)
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = False
        self.paginator = None


def unanswered(error: Exception) -> str:
    """What to tell when the store does not answer."""
    return str(_("The place where tasks are kept does not answer: %s")) % error


def _total(asked: TaskFilter, reads: Reads) -> int | None:
    """How many tasks match; None where only reading all of them would tell."""
    plain = TaskFilter(
        queues=asked.queues, statuses=asked.statuses, oldest_first=asked.oldest_first
    )
    if asked != plain:
        return None
    return sum(
        one.count
        for one in reads.counts()
        if (not asked.queues or one.queue in asked.queues)
        and (not asked.statuses or one.status in asked.statuses)
    )
