"""Dependencies of a Litestar app in its tasks."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import FromQuery

import omniq
from omniq import AsyncOmniQ, TaskFailed
from omniq.contrib.litestar import OmniQPlugin
from omniq.errors import ConfigError
from omniq.serialization import FUNCTIONS
from omniq.testing import collecting, drain, eager

pytestmark = pytest.mark.asyncio

said: list[str] = []


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    said.clear()
    yield


class Database:
    def __init__(self, name: str) -> None:
        self.name, self.loop, self.thread = name, asyncio.get_running_loop(), threading.get_ident()


async def database(state: State) -> AsyncIterator[Database]:
    said.append("database opened")
    try:
        yield Database(state.url)
    except Exception as error:
        said.append(f"database rolled back: {error}")
        raise
    finally:
        said.append("database closed")


def session(database: Database) -> Iterator[str]:
    said.append("session opened")
    yield f"session of {database.name}"
    said.append("session closed")


async def whoami(request: Request[Any, Any, Any]) -> str:
    return str(request.url)


def paged(limit: FromQuery[int] = 10) -> int:
    return limit


def from_request(user: str) -> str:
    return user


def per_route(item_id: int) -> int:
    return item_id


PROVIDES = {
    "database": Provide(database),
    "session": Provide(session),
    "user": Provide(whoami),
    "by_user": Provide(from_request, sync_to_thread=False),
    "item": Provide(per_route, sync_to_thread=False),
    "limit": Provide(paged, sync_to_thread=False),
    "slow": Provide(lambda: threading.get_ident(), sync_to_thread=True),
    "once": Provide(lambda: object(), use_cache=True, sync_to_thread=False),
}


@asynccontextmanager
async def running() -> AsyncIterator[AsyncOmniQ]:
    plugin = OmniQPlugin(storage_type="memory", dashboard=False)
    app = Litestar(
        plugins=[plugin],
        dependencies=PROVIDES,
        state=State({"url": "db://"}),
        logging_config=None,  # Litestar would take the log from pytest
    )
    with eager(plugin.queue, raise_errors=True):
        async with app.lifespan():
            yield plugin.queue
    assert plugin.queue.around == [], "a second start would fill in twice"


async def on_loop(word: str, session: NamedDependency[str]) -> str:
    said.append(f"{word} in {session}")
    return session


def in_thread(session: NamedDependency[str], word: str, *, mark: str = "!") -> str:
    said.append(f"{word} in {session}{mark}")
    return session


async def left_out(word: str, session: str, database: Any) -> str:
    return f"{word}, {session}, {database.name}"


async def test_what_is_made_is_ended_in_reverse() -> None:
    async with running() as queue:
        for handle in (
            await queue.enqueue(on_loop, ("work",)),
            await queue.enqueue(in_thread, ("work",), {"mark": ""}),
        ):
            assert await handle.result() == "session of db://"
    a_run = [
        "database opened",
        "session opened",
        "work in session of db://",
        "session closed",
        "database closed",
    ]
    assert said == a_run * 2


async def fails(session: NamedDependency[str]) -> None:
    raise ValueError("no")


def fails_plainly(session: NamedDependency[str]) -> None:
    raise ValueError("no")


@pytest.mark.parametrize("func", [fails, fails_plainly])
async def test_a_failure_is_thrown_into_what_is_open(func: Any) -> None:
    async with running() as queue:
        with pytest.raises(ValueError, match="no"):
            await queue.enqueue(func, retries=0)
    assert said[2:] == ["database rolled back: no", "database closed"]


async def test_a_parameter_that_was_left_out_is_filled_in_by_its_name() -> None:
    async with running() as queue:
        handle = await queue.enqueue(left_out, ("hello",))
        assert await handle.result() == "hello, session of db://, db://"
        # What the caller gives is the caller's: positions count here, and names win.
        said.clear()
        handle = await queue.enqueue(in_thread, ("hello",), {"session": "mine"})
        assert await handle.result() == "mine"
        assert said == ["hello in mine!"]


def with_default(queue: str = "mails", limit: int = 3) -> tuple[str, int]:
    return queue, limit


async def test_a_default_is_not_overruled_by_chance() -> None:
    async with running() as queue:
        assert await (await queue.enqueue(with_default)).result() == ("mails", 3)


async def enqueues(queue: NamedDependency[AsyncOmniQ]) -> str:
    return await (await queue.enqueue(on_loop, ("inner",))).result()


async def test_the_queue_is_a_dependency_too() -> None:
    async with running() as queue:
        assert await (await queue.enqueue(enqueues)).result() == "session of db://"


def kinds(
    limit: NamedDependency[int], slow: NamedDependency[int], database: NamedDependency[Any]
) -> tuple[int, bool, bool]:
    here = threading.get_ident()
    return limit, slow == here, database.thread == here


async def same(once: NamedDependency[Any]) -> int:
    return id(once)


async def test_providers_of_every_kind() -> None:
    async with running() as queue:
        assert await (await queue.enqueue(kinds)).result() == (10, False, False)
        first, second = [await (await queue.enqueue(same)).result() for _ in range(2)]
        assert first == second


@pytest.mark.parametrize("lane", ["async", "thread"])
async def test_with_a_real_worker(lane: Any) -> None:
    app = Litestar(
        plugins=[OmniQPlugin(storage_type="memory", dashboard=False, worker_type=lane)],
        dependencies=PROVIDES,
        state=State({"url": "db://"}),
    )
    async with app.lifespan():
        queue: AsyncOmniQ = app.state.omniq
        for func in (on_loop, in_thread):
            assert await (await queue.enqueue(func, ("x",))).result(30) == "session of db://"


async def test_a_blocking_thread_per_task_does_not_mix_them_up() -> None:
    app = Litestar(
        plugins=[OmniQPlugin(storage_type="memory", dashboard=False)],
        dependencies=PROVIDES,
        state=State({"url": "db://"}),
    )
    async with app.lifespan():
        queue: AsyncOmniQ = app.state.omniq
        handles = [await queue.enqueue(in_thread, (str(n),)) for n in range(30)]
        assert {await handle.result(30) for handle in handles} == {"session of db://"}
    assert said.count("session opened") == said.count("session closed") == 30


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a task that other tests do not see."""
    for each in ("_known", "_cache"):
        monkeypatch.setattr(FUNCTIONS, each, dict(getattr(FUNCTIONS, each)))
    return lambda func, name: omniq.task(name)(func)


@contextmanager
def refused(text: str) -> Iterator[None]:
    """The app does not start; Litestar's event emitter wraps why."""
    with pytest.raises(BaseExceptionGroup) as group:
        yield
    (error,) = group.value.exceptions
    assert isinstance(error, ConfigError)
    assert re.search(text, str(error))


async def wants_user(user: NamedDependency[str]) -> None: ...
async def wants_deeply(by_user: NamedDependency[str]) -> None: ...
async def wants_item(item: NamedDependency[int]) -> None: ...


@pytest.mark.parametrize(
    ("func", "wanted", "parameter"),
    [
        (wants_user, "'user', but whoami", "'request'"),
        (wants_deeply, "'by_user', but whoami", "'request'"),
        (wants_item, "'item', but per_route", "'item_id'"),
    ],
)
async def test_what_only_a_request_has_is_refused_at_start(
    func: Any, wanted: str, parameter: str, registered: Any
) -> None:
    registered(func, f"inject.{func.__name__}")
    app = Litestar(plugins=[OmniQPlugin(storage_type="memory")], dependencies=PROVIDES)
    text = rf"{func.__name__} wants the dependency {wanted}\(\) needs {parameter}, which only a req"
    with refused(text):
        async with app.lifespan():
            pass


async def unknown(sesion: NamedDependency[str]) -> None: ...


async def test_a_name_nobody_provides_is_told(
    registered: Any, caplog: pytest.LogCaptureFixture
) -> None:
    registered(unknown, "inject.unknown")
    async with running() as queue:
        assert "task inject.unknown wants 'sesion', which this app does not provide" in caplog.text
        with pytest.raises(ConfigError, match="does not provide; did you mean 'session'"):
            await queue.enqueue(unknown, retries=0)


async def test_a_task_that_is_called_wrongly_says_so() -> None:
    async with running() as queue:
        with pytest.raises(TypeError, match=r"in_thread\(\): too many positional"):
            await queue.enqueue(in_thread, ("a", "b"), retries=0)
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'word'"):
            await queue.enqueue(in_thread, retries=0)


async def twice() -> AsyncIterator[int]:
    yield 1
    yield 2


def round_trip(b: int) -> int:
    return b


def trip_back(a: int) -> int:
    return a


async def test_providers_that_cannot_work_are_named(registered: Any) -> None:
    async def uses(a: NamedDependency[int]) -> None: ...

    provides = {
        "a": Provide(round_trip, sync_to_thread=False),
        "b": Provide(trip_back, sync_to_thread=False),
    }
    registered(uses, "inject.uses")
    app = Litestar(plugins=[OmniQPlugin(storage_type="memory")], dependencies=provides)
    with refused("'b' and 'a' need each other"):
        async with app.lifespan():
            pass


async def test_a_provider_yields_once() -> None:
    app = Litestar(
        plugins=[OmniQPlugin(storage_type="memory")], dependencies={"two": Provide(twice)}
    )
    with eager(app.state.omniq, raise_errors=True):
        async with app.lifespan():
            with pytest.raises(RuntimeError, match=r"twice\(\) yields more than once"):
                await app.state.omniq.enqueue(wants_two, retries=0)


async def wants_two(two: NamedDependency[int]) -> int:
    return two


async def annotated(word: Annotated[str, "a word"], *more: str, **other: str) -> list[Any]:
    return [word, more, other]


async def test_tasks_without_dependencies_are_left_alone() -> None:
    async with running() as queue:
        handle = await queue.enqueue(annotated, ("a", "b"), {"c": "d"})
        assert await handle.result() == ["a", ("b",), {"c": "d"}]
        assert await (await queue.enqueue(len, ("four",))).result() == 4


async def test_names_known_to_type_checkers_only_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late_tasks.py").write_text("""\
from __future__ import annotations
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from litestar.di import NamedDependency
    from somewhere import Session

async def late(session: NamedDependency[Session], word: str = "x") -> str:
    return f"{word}: {session}"
""")
    monkeypatch.syspath_prepend(tmp_path)
    from late_tasks import late  # type: ignore[import-not-found]

    async with running() as queue:
        assert await (await queue.enqueue(late, ("word",))).result() == "word: session of db://"


async def test_drained_by_hand() -> None:
    plugin = OmniQPlugin(storage_type="memory", dashboard=False)
    app = Litestar(plugins=[plugin], dependencies=PROVIDES, state=State({"url": "db://"}))
    with collecting(plugin.queue):
        async with app.lifespan():
            handle = await plugin.queue.enqueue(fails, retries=0)
            assert (await drain(plugin.queue)).failed == 1
            with pytest.raises(TaskFailed):
                await handle.result()
