"""Tasks and workers in Django's admin: lists, one task, actions, permissions."""

from __future__ import annotations

import json
import re
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.test import Client, override_settings
from django.utils import translation

from omniq.contrib.django import queue
from omniq.contrib.django.admin import browse
from omniq.contrib.django.models import Task
from omniq.contrib.django.runtime import blocking, native
from omniq.errors import StorageUnavailable, TaskFailed
from omniq.models.filters import TaskFilter
from omniq.models.status import EventType, Status
from tests.contrib.django.people import events_of, signed_in
from tests.contrib.django.shop.tasks import add, boom

pytestmark = pytest.mark.usefixtures("db")
TASKS, FAILED, WORKERS = "/admin/omniq/task/", "/admin/omniq/failedtask/", "/admin/omniq/worker/"
ALL = ("view_task", "change_task", "delete_task")


def later(**options: Any) -> str:
    return str(queue.enqueue(add, (1, 2), delay=3600, **options))


def failed(message: str = "no") -> str:
    """A task that has failed for good."""
    blocking().start_worker()
    task_id = str(queue.enqueue(boom, (message,), retries=0))
    with pytest.raises(TaskFailed):
        queue.get_result(task_id, timeout=20)
    return task_id


def status(task_id: str) -> Status:
    return queue.info(task_id).row.status


def shown(answer: Any) -> list[str]:
    """The ids of the tasks in a list."""
    assert answer.status_code == 200, answer
    return re.findall(r'name="_selected_action" value="([^"]+)"', answer.content.decode())


def told(answer: Any) -> str:
    """The messages on the page an action leads to."""
    found = re.search(r'<ul class="messagelist">(.*?)</ul>', answer.content.decode(), re.DOTALL)
    return re.sub(r"<[^>]+>|\s+", " ", found[1]).strip() if found else ""


def act(client: Client, name: str, *ids: str, at: str = TASKS, **more: str) -> Any:
    form = {"action": name, "_selected_action": ids, "index": "0", **more}
    return client.post(at, form, follow=True)


# ---- lists


def test_the_list_shows_tasks_and_narrows_them() -> None:
    client = signed_in(*ALL)
    bad, one, two = failed(), later(queue="mail"), later(tags=["x"])
    gone = later()
    queue.cancel(gone)
    assert shown(client.get(TASKS)) == [gone, two, one, bad]
    scheduled, cancelled = int(Status.SCHEDULED), int(Status.CANCELLED)
    assert shown(client.get(f"{TASKS}?status={scheduled}")) == [two, one]
    assert shown(client.get(f"{TASKS}?status={scheduled}&queue=mail")) == [one]
    assert shown(client.get(f"{TASKS}?status={cancelled}")) == [gone]
    assert shown(client.get(f"{TASKS}?name=tests.contrib.django.shop.tasks:boom")) == [bad]
    worker = queue.info(bad).row.owner
    assert shown(client.get(f"{TASKS}?worker={worker}")) == [bad]
    assert shown(client.get(f"{TASKS}?worker=nobody")) == []
    text = client.get(TASKS).content.decode()
    for choice in ("scheduled (2)", "failed (1)", "mail (1)", "4 tasks"):
        assert choice in text


def test_search_knows_ids_names_and_arguments() -> None:
    client = signed_in(*ALL)
    needle = str(queue.enqueue(add, ("needle in the hay", 1), delay=3600))
    other, bad = later(), failed()
    assert shown(client.get(TASKS, {"q": other})) == [other]
    assert shown(client.get(TASKS, {"q": f" {other.upper()} "})) == [other]
    assert shown(client.get(TASKS, {"q": "tests.contrib.django.shop.tasks:boom"})) == [bad]
    assert shown(client.get(TASKS, {"q": "needle"})) == [needle]
    assert shown(client.get(TASKS, {"q": "019a0000-0000-7000-8000-000000000000"})) == []


def test_only_the_order_of_creation_can_be_chosen() -> None:
    client, ids = signed_in(*ALL), [later(), later(), later()]
    text = client.get(TASKS).content.decode()
    assert len(re.findall(r'class="sortable', text)) == 1
    assert "column-created" in text
    oldest = re.search(r'href="(\?o=[^"]+)"', text)
    assert oldest
    assert shown(client.get(TASKS + oldest[1])) == ids
    assert shown(client.get(f"{TASKS}?o=1.-2.99.x")) == ids[::-1]


def test_pages_lead_on_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse, "PAGE", 2)
    client = signed_in(*ALL)
    ids = [later(queue="mail") for _ in range(5)][::-1]
    here, seen, way = f"{TASKS}?queue=mail", [], []
    while True:
        answer = client.get(here)
        seen.append(shown(answer))
        way.append(here)
        text = answer.content.decode()
        assert "5 tasks" in text
        older = re.search(r'href="([^"]+)" rel="next"', text)
        newer = re.search(r'href="([^"]+)" rel="prev"', text)
        assert (newer is None) == (len(seen) == 1)
        if newer:
            back = TASKS + newer[1].replace("&amp;", "&")
            assert shown(client.get(back)) == seen[-2]
        if older is None:
            break
        here = TASKS + older[1].replace("&amp;", "&")
    assert seen == [ids[:2], ids[2:4], ids[4:]]
    status_link = re.search(r'href="(\?[^"]*status=30[^"]*)"', text)
    assert status_link
    assert "after" not in status_link[1], "another filter starts at the first page"


def test_a_page_asks_no_question_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    client, asked = signed_in(*ALL), []

    def counting(name: str) -> Any:
        real = getattr(native(), name)

        async def call(*args: Any, **named: Any) -> Any:
            asked.append(name)
            return await real(*args, **named)

        return call

    later()
    for name in ("find", "counts", "workers", "metrics", "info", "events", "result"):
        monkeypatch.setattr(native(), name, counting(name))
    client.get(TASKS)
    for_one = sorted(asked)
    assert len(for_one) <= 5
    asked.clear()
    for _ in range(20):
        later()
    asked.clear()
    assert len(shown(client.get(TASKS))) == 21
    assert sorted(asked) == for_one


def test_failed_tasks_stand_by_what_they_failed_with() -> None:
    client = signed_in(*ALL)
    ids = [failed("one"), failed("two")]
    later()
    assert shown(client.get(FAILED)) == ids[::-1]
    assert "ValueError (2)" in client.get(FAILED).content.decode()
    assert shown(client.get(f"{FAILED}?error=ValueError")) == ids[::-1]
    assert shown(client.get(f"{FAILED}?error=KeyError")) == []
    answer = act(client, "retry_tasks", *ids, at=FAILED)
    assert "2 tasks will run again." in told(answer)


def test_workers_have_a_list() -> None:
    blocking().start_worker()
    text = signed_in("view_task").get(WORKERS).content.decode()
    assert "alive" in text
    assert "1 worker" in text
    assert signed_in("view_task").get(f"{WORKERS}x/change/").status_code == 302


@pytest.mark.parametrize(
    "wrong", ["status=99", "status=x", "flavour=3", "name__exact=x", "after=%FF", "attempt=1"]
)
def test_wrong_addresses_lead_back_to_the_list(wrong: str) -> None:
    client = signed_in(*ALL)
    later()
    answer = client.get(f"{TASKS}?{wrong}")
    assert answer.status_code in (200, 302, 400)
    if answer.status_code == 302:
        assert client.get(answer.headers["location"]).status_code == 200


# ---- one task


def test_a_task_has_a_page() -> None:
    client, task_id = signed_in(*ALL), failed('</pre><script>alert("x")</script>')
    text = client.get(f"{TASKS}{task_id}/change/").content.decode()
    assert "<script>alert" not in text
    for part in ("failed", "ValueError", "Traceback", "Failed for good", "boom", task_id):
        assert part in text
    assert 'name="_retry"' in text
    assert 'name="_cancel"' not in text
    assert f"{TASKS}{task_id}/delete/" in text
    assert "Dashboard" not in text, "its URLs are not included here"


def test_secrets_are_masked() -> None:
    task_id = str(queue.enqueue(add, (1,), {"b": {"api_key": "sesame"}}, delay=3600))
    text = signed_in(*ALL).get(f"{TASKS}{task_id}/change/").content.decode()
    assert "api_key" in text
    assert "sesame" not in text


def test_what_is_not_there() -> None:
    client = signed_in(*ALL)
    for name in ("nonsense", "019a0000-0000-7000-8000-000000000000", "_5F_22"):
        for word in ("change", "history", "delete"):
            answer = client.get(f"{TASKS}{name}/{word}/", follow=True)
            assert "exist" in told(answer), (name, word)
    assert client.get(f"{TASKS}add/").status_code == 403


def test_buttons_act_and_leave_their_mark() -> None:
    client, task_id = signed_in(*ALL, name="ada"), later()
    page = f"{TASKS}{task_id}/change/"
    answer = client.post(page, {"_cancel": "x"}, follow=True)
    assert "1 task was cancelled" in told(answer)
    assert status(task_id) is Status.CANCELLED
    assert events_of(task_id, EventType.ACTION)[0].data == {"action": "cancel", "actor": "ada"}
    answer = client.post(page, {"_cancel": "x"}, follow=True)
    assert "left alone: it has ended" in told(answer)
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.change_message) == (task_id, "Cancelled.")
    assert entry.get_edited_object is not None
    assert task_id in entry.get_admin_url()
    assert "Cancelled." in client.get(f"{TASKS}{task_id}/history/").content.decode()
    assert client.get("/admin/").status_code == 200


def test_deleting_is_asked_first() -> None:
    client, task_id, waits = signed_in(*ALL), later(), later()
    queue.cancel(task_id)
    asked = client.get(f"{TASKS}{task_id}/delete/")
    assert "Are you sure" in asked.content.decode()
    assert status(task_id) is Status.CANCELLED
    answer = client.post(f"{TASKS}{task_id}/delete/", {"post": "yes"}, follow=True)
    assert "1 task was deleted." in told(answer)
    assert [one.id for one in queue.find(TaskFilter()).tasks] == [waits]
    for method in (client.get, client.post):
        answer = method(f"{TASKS}{waits}/delete/", {"post": "yes"}, follow=True)
        assert "Only a task that has ended can be deleted." in told(answer)
    assert status(waits) is Status.SCHEDULED


# ---- actions on many


def test_actions_say_how_many() -> None:
    client, ids, done = signed_in(*ALL), [later(), later()], later()
    queue.cancel(done)
    answer = act(client, "cancel_tasks", *ids, done, "nonsense")
    assert "2 tasks were cancelled" in told(answer)
    assert "1 task was left alone: it has ended." in told(answer)
    assert {status(one) for one in ids} == {Status.CANCELLED}
    assert LogEntry.objects.count() == 2
    answer = act(client, "delete_selected", ids[0], done)
    assert "Are you sure" in answer.content.decode()
    assert len(queue.find(TaskFilter()).tasks) == 3
    answer = act(client, "delete_selected", ids[0], done, post="yes")
    assert "2 tasks were deleted." in told(answer)
    assert [one.id for one in queue.find(TaskFilter()).tasks] == [ids[1]]


def test_all_that_match_takes_a_permission_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse, "PAGE", 2)
    ids = [later(queue="mail") for _ in range(5)]
    other = later()
    answer = act(
        signed_in(*ALL), "cancel_tasks", ids[0], at=f"{TASKS}?queue=mail", select_across="1"
    )
    assert "whole groups of tasks" in told(answer)
    assert status(ids[0]) is Status.SCHEDULED
    client = signed_in(*ALL, "manage_queue")
    answer = act(client, "cancel_tasks", ids[0], at=f"{TASKS}?queue=mail", select_across="1")
    assert "5 tasks were cancelled" in told(answer)
    assert status(other) is Status.SCHEDULED


def test_who_may_only_look_cannot_act() -> None:
    client, task_id = signed_in("view_task"), later()
    page = f"{TASKS}{task_id}/change/"
    assert shown(client.get(TASKS)) == [], "without actions there is nothing to select"
    text = client.get(page).content.decode()
    assert task_id in text
    assert 'name="_cancel"' not in text
    assert client.post(page, {"_cancel": "x"}).status_code == 403
    assert client.get(f"{TASKS}{task_id}/delete/").status_code == 403
    assert client.post(f"{TASKS}{task_id}/delete/", {"post": "yes"}).status_code == 403
    act(client, "cancel_tasks", task_id)
    assert status(task_id) is Status.SCHEDULED
    act(signed_in("view_task", "change_task"), "delete_selected", task_id, post="yes")
    assert status(task_id) is Status.SCHEDULED


@pytest.mark.parametrize("url", [TASKS, FAILED, WORKERS, TASKS + "x/change/", TASKS + "x/delete/"])
def test_staff_without_permission_see_nothing(url: str) -> None:
    client = signed_in()
    assert client.get(url).status_code == 403
    assert "OmniQ" not in client.get("/admin/").content.decode()
    assert Client().get(url).status_code == 302


# ---- around


def test_a_place_that_is_down_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    client, task_id, tried = signed_in(*ALL), later(), []

    def down(name: str) -> Any:
        async def call(*args: Any, **named: Any) -> Any:
            tried.append(name)
            raise StorageUnavailable("nobody there")

        return call

    for name in ("find", "counts", "workers", "metrics", "info", "events", "cancel"):
        monkeypatch.setattr(native(), name, down(name))
    for url in (TASKS, FAILED, WORKERS):
        tried.clear()
        answer = client.get(url)
        assert answer.status_code == 503
        assert "does not answer: nobody there" in told(answer)
        assert len(tried) == 1, "whoever does not answer is not asked again and again"
    for word in ("change", "history", "delete"):
        answer = client.get(f"{TASKS}{task_id}/{word}/", follow=True)
        assert "nobody there" in told(answer)
    assert "nobody there" in told(act(client, "cancel_tasks", task_id))


@override_settings(USE_TZ=False)
def test_without_time_zones() -> None:
    task_id = later()
    client = signed_in(*ALL)
    assert shown(client.get(TASKS)) == [task_id]
    assert client.get(f"{TASKS}{task_id}/change/").status_code == 200


def test_in_another_language() -> None:
    client, task_id = signed_in(*ALL), later()
    with override_settings(LANGUAGE_CODE="de"), translation.override("de"):
        assert "Suchen" in client.get(TASKS).content.decode()
        assert client.get(f"{TASKS}{task_id}/change/").status_code == 200


@pytest.mark.usefixtures("omniq_in_db")
def test_tasks_in_the_database_go_through_the_same_connection() -> None:
    """Also what this transaction has not committed yet is seen, and acted on."""
    client, task_id = signed_in(*ALL), later()
    assert shown(client.get(TASKS)) == [task_id]
    assert "1 task was cancelled" in told(act(client, "cancel_tasks", task_id))
    assert status(task_id) is Status.CANCELLED
    assert client.get(f"{TASKS}{task_id}/change/").status_code == 200


def test_the_models_keep_out_of_the_way() -> None:
    call_command("makemigrations", "omniq", check=True, dry_run=True, verbosity=0)
    call_command("check")
    later()
    assert list(Task.objects.all()) == []
    told = StringIO()
    call_command("dumpdata", "omniq", stdout=told)
    assert json.loads(told.getvalue()) == []
