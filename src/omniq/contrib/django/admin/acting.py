"""What can be done with tasks in the admin: one or many, counted, logged and noted who did it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.models import CHANGE, LogEntry
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from omniq.contrib.django.admin.browse import TROUBLE, Rows, unanswered
from omniq.contrib.django.faces import queue
from omniq.contrib.django.models import Task
from omniq.errors import TaskNotFound
from omniq.models.status import Status

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


def offered(status: Status) -> set[str]:
    """What can be done with a task that stands so."""
    if status is Status.SCHEDULED:
        return {"retry", "cancel"}
    if not status.final:
        return {"cancel"}
    return {"delete"} if status is Status.SUCCEEDED else {"retry", "delete"}


def allowed(request: HttpRequest, permission: str) -> bool:
    """Whether the user has this permission of ours."""
    user: Any = request.user
    return bool(user.has_perm(f"omniq.{permission}"))


class Done(NamedTuple):
    """What an action came to: the tasks it changed, and how many it left alone."""

    changed: list[Task]
    left: int


class TaskActions(ModelAdmin):
    """Retry, cancel and delete, for a page of tasks and for a list of them."""

    @admin.action(description=gettext_lazy("Run selected tasks again"), permissions=["change"])
    def retry_tasks(self, request: HttpRequest, rows: Rows) -> None:
        self._act_on_many(request, "retry", rows)

    @admin.action(description=gettext_lazy("Cancel selected tasks"), permissions=["change"])
    def cancel_tasks(self, request: HttpRequest, rows: Rows) -> None:
        self._act_on_many(request, "cancel", rows)

    @admin.action(description=gettext_lazy("Delete selected tasks"), permissions=["delete"])
    def delete_selected(self, request: HttpRequest, rows: Rows) -> HttpResponse | None:
        """Asked once more; then as far as the tasks have ended."""
        if request.POST.get("post"):
            self._act_on_many(request, "delete", rows)
            return None
        if not self._may_take_all(request, rows):
            return None
        try:
            chosen = list(rows)
        except TROUBLE as error:
            messages.error(request, unanswered(error))
            return None
        named, numbers, _lacking, _protected = self.get_deleted_objects(chosen, request)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Delete multiple objects"),
            "subtitle": None,
            "objects_name": str(self.opts.verbose_name_plural),
            "deletable_objects": [named],
            "delete_confirmation_max_display": getattr(
                self, "delete_confirmation_max_display", None  # since Django 6.1
            ),
            "model_count": numbers.items(),
            "queryset": chosen,
            "perms_lacking": [],
            "protected": [],
            "opts": self.opts,
            "action_checkbox_name": helpers.ACTION_CHECKBOX_NAME,
            "media": self.media,
        }
        request.current_app = self.admin_site.name
        template = "admin/delete_selected_confirmation.html"
        return TemplateResponse(request, template, context)

    def _may_take_all(self, request: HttpRequest, rows: Rows) -> bool:
        if rows.ids is not None or allowed(request, "manage_queue"):
            return True
        messages.error(
            request,
            _("To act on all that match takes the permission “Can act on whole groups of tasks”."),
        )
        return False

    def _act_on_many(self, request: HttpRequest, act: str, rows: Rows) -> None:
        if not self._may_take_all(request, rows):
            return
        try:
            self._report(request, act, self._act(request, act, rows))
        except TROUBLE as error:
            messages.error(request, unanswered(error))

    def _act(self, request: HttpRequest, act: str, tasks: Iterable[Task]) -> Done:
        """Do it to each, and leave a line of it in the admin's log."""
        calls: dict[str, Callable[..., bool]] = {
            "retry": queue.retry,
            "cancel": queue.cancel,
            "delete": queue.delete,
        }
        actor, changed, left = request.user.get_username(), [], 0
        try:
            for task in list(tasks):
                try:
                    worked = calls[act](task.id, actor=actor)
                except TaskNotFound:
                    worked = False
                if worked:
                    changed.append(task)
                else:
                    left += 1
        finally:
            if changed:
                self._log(request, act, changed)
        return Done(changed, left)

    def _log(self, request: HttpRequest, act: str, tasks: list[Task]) -> None:
        if act == "delete":
            self.log_deletions(request, tasks)  # type: ignore[arg-type]
            return
        said = {"retry": "Asked to run again.", "cancel": "Cancelled."}[act]
        LogEntry.objects.log_actions(
            user_id=request.user.pk or 0,
            queryset=tasks,
            action_flag=CHANGE,
            change_message=said,
        )

    def _report(self, request: HttpRequest, act: str, done: Done) -> None:
        """How many were changed, and why the others were not."""
        number = len(done.changed)
        if number:
            text = {
                "retry": ngettext(
                    "%(n)d task will run again.", "%(n)d tasks will run again.", number
                ),
                "cancel": ngettext(
                    "%(n)d task was cancelled; if it runs, it has been asked to stop.",
                    "%(n)d tasks were cancelled; those that run have been asked to stop.",
                    number,
                ),
                "delete": ngettext("%(n)d task was deleted.", "%(n)d tasks were deleted.", number),
            }[act]
            messages.success(request, text % {"n": number})
        if done.left:
            text = {
                "retry": ngettext(
                    "%(n)d task was left alone: it waits, runs or is gone.",
                    "%(n)d tasks were left alone: they wait, run or are gone.",
                    done.left,
                ),
                "cancel": ngettext(
                    "%(n)d task was left alone: it has ended.",
                    "%(n)d tasks were left alone: they have ended.",
                    done.left,
                ),
                "delete": ngettext(
                    "%(n)d task was left alone: it has not ended, or is gone.",
                    "%(n)d tasks were left alone: they have not ended, or are gone.",
                    done.left,
                ),
            }[act]
            messages.warning(request, text % {"n": done.left})
