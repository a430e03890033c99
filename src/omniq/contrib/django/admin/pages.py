"""Tasks, failed tasks and workers as pages of the admin, over the queue as it is now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.utils import flatten_fieldsets, quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from omniq.contrib.django.admin import browse, present
from omniq.contrib.django.admin.acting import ModelAdmin, TaskActions, allowed, offered
from omniq.contrib.django.admin.browse import TROUBLE, Reads, unanswered
from omniq.contrib.django.faces import queue
from omniq.contrib.django.models import FailedTask, Task, Worker
from omniq.errors import TaskNotFound
from omniq.ids import is_task_id
from omniq.models.filters import EventFilter, TaskFilter
from omniq.models.info import TaskInfo
from omniq.models.status import Status

EVENTS = 200


class _OverTheQueue(ModelAdmin):
    """What all three have in common: one set of permissions, those for tasks; nothing is added."""

    list_per_page = browse.PAGE
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by: ClassVar[Any] = ()

    class Media:
        css: ClassVar[Any] = {"all": ["omniq/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return allowed(request, "change_task")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return allowed(request, "delete_task")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return allowed(request, "view_task") or self.has_change_permission(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        more = {
            "title": capfirst(self.opts.verbose_name_plural),
            "omniq_dashboard": present.dashboard_url(self.dashboard_page),
        }
        response = super().changelist_view(request, {**more, **(extra_context or {})})
        context = getattr(response, "context_data", None)
        if context and "cl" in context and context["cl"].total is None:
            context["selection_note_all"] = _("All that match selected")
        if Reads.of(request).trouble is not None and context:
            response.status_code = 503
        return response

    dashboard_page = "tasks"


@admin.register(Task)
class TaskAdmin(_OverTheQueue, TaskActions):
    """All tasks. The list is read page by page; only the order of creation is an order of it."""

    base_filter = TaskFilter()
    list_display: Any = ("state", "task", "queue", "created", "ran", "attempt")
    list_display_links = ("task",)
    list_filter: ClassVar[Any] = (
        browse.ByStatus,
        browse.ByQueue,
        browse.ByName,
        browse.ByWorker,
    )
    search_fields = ("id", "name")
    search_help_text = gettext_lazy("An id, the name of a task, or a part of its arguments.")
    sortable_by: ClassVar[Any] = ("created",)
    ordering = ("-id",)
    actions: Any = ("retry_tasks", "cancel_tasks", "delete_selected")
    save_on_top = True
    fieldsets: ClassVar[Any] = (
        (None, {"fields": ("state", "task", "progress_bar", "arguments", "result")}),
        (gettext_lazy("Failed attempts"), {"fields": ("errors",)}),
        (gettext_lazy("Timeline"), {"fields": ("timeline",)}),
        (
            gettext_lazy("Facts"),
            {
                "fields": (
                    ("id", "queue"),
                    ("created_exactly", "planned_exactly"),
                    ("started_exactly", "ended_exactly"),
                    ("waited", "ran"),
                    ("attempts", "worker"),
                    ("priority", "tags"),
                )
            },
        ),
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return browse.TaskChangeList

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Without what there is nothing of."""
        info: TaskInfo | None = getattr(obj, "info", None)
        if info is None:
            return self.fieldsets
        empty = {"progress_bar"} if info.progress is None else set()
        empty |= set() if info.errors else {"errors"}
        kept = []
        for title, options in self.fieldsets:
            fields = tuple(one for one in options["fields"] if one not in empty)
            if fields:
                kept.append((title, {**options, "fields": fields}))
        return kept

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return flatten_fieldsets(self.fieldsets)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Task | None:
        """The task with everything about it; None if it never was or its time is up."""
        if not is_task_id(object_id):
            return None
        try:
            info = queue.info(object_id)
        except TaskNotFound:
            return None
        task: Task = self.model.of(info.row)
        task.info = info
        return task

    # ---- columns

    @admin.display(description=gettext_lazy("status"))
    def state(self, task: Task) -> str:
        return present.status(task.row)

    @admin.display(description=gettext_lazy("task"))
    def task(self, task: Task) -> str:
        if hasattr(task, "info"):
            return task.name
        if not task.row.preview:
            return task.name
        line = '{}<br><span class="omniq-preview quiet">{}</span>'
        return format_html(line, task.name, task.row.preview[:200])

    @admin.display(description=gettext_lazy("created"), ordering="id")
    def created(self, task: Task) -> Any:
        return present.exactly(task.row.created_at)

    @admin.display(description=gettext_lazy("waited"))
    def waited(self, task: Task) -> str:
        return present.waited(task.row)

    @admin.display(description=gettext_lazy("ran"))
    def ran(self, task: Task) -> str:
        return present.ran(task.row)

    # ---- the page of one task

    @admin.display(description=gettext_lazy("progress"))
    def progress_bar(self, task: Task) -> str:
        return present.progress(task.info)

    @admin.display(description=gettext_lazy("arguments"))
    def arguments(self, task: Task) -> str:
        return present.arguments(task.info.arguments)

    @admin.display(description=gettext_lazy("result"))
    def result(self, task: Task) -> str:
        return present.outcome(task.info)

    @admin.display(description=gettext_lazy("errors"))
    def errors(self, task: Task) -> str:
        return present.errors(task.info.errors)

    @admin.display(description=gettext_lazy("what happened"))
    def timeline(self, task: Task) -> str:
        found = queue.events(EventFilter(task=task.id), limit=EVENTS)
        return present.timeline(task.info, found.events)

    @admin.display(description=gettext_lazy("created"))
    def created_exactly(self, task: Task) -> str:
        return present.exactly(task.row.created_at)

    @admin.display(description=gettext_lazy("planned for"))
    def planned_exactly(self, task: Task) -> str:
        return present.exactly(task.row.run_at if task.row.run_at > task.row.created_at else None)

    @admin.display(description=gettext_lazy("started"))
    def started_exactly(self, task: Task) -> str:
        return present.exactly(task.row.started_at)

    @admin.display(description=gettext_lazy("ended"))
    def ended_exactly(self, task: Task) -> str:
        return present.exactly(task.row.finished_at)

    @admin.display(description=gettext_lazy("attempts"))
    def attempts(self, task: Task) -> str:
        of = task.info.retry
        return f"{task.row.attempt} / {of.retries + 1}" if of else str(task.row.attempt)

    @admin.display(description=gettext_lazy("priority"))
    def priority(self, task: Task) -> str:
        return str(task.row.priority)

    @admin.display(description=gettext_lazy("tags"))
    def tags(self, task: Task) -> str:
        return ", ".join(task.row.tags) or "–"

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        """One task, and the buttons for what can be done with it."""
        try:
            if request.method == "POST":
                return self._act_on_one(request, unquote(object_id))
            task = self.get_object(request, unquote(object_id))
            acts = offered(task.row.status) if task is not None else set()
            may_change = self.has_change_permission(request)
            more = {
                "title": task.name if task is not None else None,
                "subtitle": task.id if task is not None else None,
                "may_retry": may_change and "retry" in acts,
                "may_cancel": may_change and "cancel" in acts,
                "may_delete": self.has_delete_permission(request) and "delete" in acts,
                "runs_later": task is not None and task.row.status is Status.SCHEDULED,
                "omniq_dashboard": present.dashboard_url("tasks", unquote(object_id)),
            }
            response = super().change_view(
                request, object_id, form_url, {**more, **(extra_context or {})}
            )
            # Rendered here, so that a store that goes down meanwhile is told like any other.
            return response.render() if isinstance(response, TemplateResponse) else response
        except TROUBLE as error:
            return self._to_list(request, unanswered(error))

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        try:
            return super().history_view(request, object_id, extra_context)
        except TROUBLE as error:
            return self._to_list(request, unanswered(error))

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """Asked once more, as everywhere in the admin; what has not ended cannot be deleted."""
        if not self.has_delete_permission(request):
            raise PermissionDenied
        try:
            task = self.get_object(request, unquote(object_id))
            if task is not None and "delete" not in offered(task.row.status):
                messages.warning(request, _("Only a task that has ended can be deleted."))
                return HttpResponseRedirect(self._page(object_id))
            if task is not None and request.method == "POST":
                self._report(request, "delete", self._act(request, "delete", [task]))
                return self._to_list(request)
            return super().delete_view(request, object_id, extra_context)
        except TROUBLE as error:
            return self._to_list(request, unanswered(error))

    def get_deleted_objects(self, objs: Iterable[Any], request: Any) -> Any:
        """Tasks have nothing that hangs on them."""
        found = [str(task) for task in objs]
        return found, {self.opts.verbose_name_plural: len(found)}, set(), []

    def _act_on_one(self, request: HttpRequest, task_id: str) -> HttpResponse:
        if not self.has_change_permission(request):
            raise PermissionDenied
        task = self.get_object(request, task_id)
        act = next((word for word in ("retry", "cancel") if f"_{word}" in request.POST), None)
        if task is not None and act is not None:
            self._report(request, act, self._act(request, act, [task]))
        return HttpResponseRedirect(self._page(quote(task_id)))

    def _page(self, quoted_id: str) -> str:
        return reverse(
            f"admin:{self.opts.app_label}_{self.opts.model_name}_change",
            args=(quoted_id,),
            current_app=self.admin_site.name,
        )

    def _to_list(self, request: HttpRequest, trouble: str = "") -> HttpResponse:
        if trouble:
            messages.error(request, trouble)
        return HttpResponseRedirect(
            reverse(
                f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist",
                current_app=self.admin_site.name,
            )
        )


@admin.register(FailedTask)
class FailedTaskAdmin(TaskAdmin):
    """What failed for good, by what it failed with."""

    base_filter = TaskFilter(statuses=(Status.FAILED,))
    list_display: Any = ("task", "error", "queue", "created", "failed", "attempt")
    list_filter: ClassVar[Any] = (browse.ByError, browse.ByFailedName, browse.ByQueue)
    actions: Any = ("retry_tasks", "delete_selected")

    @admin.display(description=gettext_lazy("error"))
    def error(self, task: Task) -> str:
        return task.fault.removeprefix("builtins.") or "–"

    @admin.display(description=gettext_lazy("failed"))
    def failed(self, task: Task) -> Any:
        return present.exactly(task.row.finished_at)


@admin.register(Worker)
class WorkerAdmin(_OverTheQueue):
    """The workers that live, or have died a moment ago."""

    dashboard_page = "workers"
    list_display: Any = (
        "name",
        "state",
        "serves",
        "slots",
        "runs_now",
        "seen_at",
        "started_at",
        "version",
    )
    list_display_links = None
    actions: Any = None

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return browse.WorkerChangeList

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return allowed(request, "view_task") or allowed(request, "change_task")

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> None:
        return None  # workers have no page of their own

    @admin.display(description=gettext_lazy("worker"))
    def name(self, worker: Worker) -> str:
        return f"{worker.host} · {worker.pid}"

    @admin.display(description=gettext_lazy("state"))
    def state(self, worker: Worker) -> str:
        return present.state(worker.card)

    @admin.display(description=gettext_lazy("serves"))
    def serves(self, worker: Worker) -> str:
        return ", ".join(worker.card.queues) or _("every queue")

    @admin.display(description=gettext_lazy("slots in use"))
    def slots(self, worker: Worker) -> str:
        return present.slots(worker.card)

    @admin.display(description=gettext_lazy("runs now"))
    def runs_now(self, worker: Worker) -> str:
        return present.running(worker.card)
