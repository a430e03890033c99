"""The names of Django's tasks framework, from Django itself or from the backport.

Imported by whatever needs the framework; importing it says what is missing if there is none.
Types are those of the backport, which has them; both are one interface.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django_tasks import DEFAULT_TASK_QUEUE_NAME as DEFAULT_TASK_QUEUE_NAME
    from django_tasks import task as task
    from django_tasks import task_backends as task_backends
    from django_tasks.backends.base import BaseTaskBackend as BaseTaskBackend
    from django_tasks.backends.immediate import ImmediateBackend as ImmediateBackend
    from django_tasks.base import Task as Task
    from django_tasks.base import TaskContext as TaskContext
    from django_tasks.base import TaskError as TaskError
    from django_tasks.base import TaskResult as TaskResult
    from django_tasks.base import TaskResultStatus as TaskResultStatus
    from django_tasks.exceptions import InvalidTaskBackendError, InvalidTaskError
    from django_tasks.exceptions import TaskResultDoesNotExist as TaskResultDoesNotExist
    from django_tasks.signals import task_enqueued as task_enqueued
    from django_tasks.signals import task_finished as task_finished
    from django_tasks.signals import task_started as task_started
    from django_tasks.utils import normalize_json as normalize_json

    InvalidTask, InvalidTaskBackend = InvalidTaskError, InvalidTaskBackendError
else:
    from omniq.contrib.django.compat import package, tasks

    _package, _base, _errors, _signals = map(tasks, ("", "base", "exceptions", "signals"))
    DEFAULT_TASK_QUEUE_NAME = _package.DEFAULT_TASK_QUEUE_NAME
    task, task_backends = _package.task, _package.task_backends
    BaseTaskBackend = tasks("backends.base").BaseTaskBackend
    ImmediateBackend = tasks("backends.immediate").ImmediateBackend
    Task, TaskContext, TaskError = _base.Task, _base.TaskContext, _base.TaskError
    TaskResult, TaskResultStatus = _base.TaskResult, _base.TaskResultStatus
    TaskResultDoesNotExist = _errors.TaskResultDoesNotExist
    task_enqueued, task_started = _signals.task_enqueued, _signals.task_started
    task_finished, normalize_json = _signals.task_finished, _base.normalize_json
    if package() == "django.tasks":
        InvalidTask, InvalidTaskBackend = _errors.InvalidTask, _errors.InvalidTaskBackend
    else:
        InvalidTask, InvalidTaskBackend = _errors.InvalidTaskError, _errors.InvalidTaskBackendError
