"""The pytest plugin, in suites of others: each runs in a pytest of its own."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.once

pytest_plugins = ["pytester"]

TASKS = """
import threading

def add(x, y):
    return x + y

async def double(x):
    return 2 * x

def thread():
    return threading.get_ident()

async def breaks():
    raise ValueError("no")
"""

ASYNC = """
import omniq
from omniq.testing import assert_enqueued, assert_nothing_enqueued, drain, worker_running
from shop import add, breaks, double

{mark}
async def test_one(omniq_queue):
    handle = await omniq_queue.enqueue(add, (1, 2))
    assert_enqueued(omniq_queue, add, (1, 2), times=1)
    assert (await drain(omniq_queue)).succeeded == 1
    assert await handle.result() == 3

{mark}
async def test_two_has_a_queue_of_its_own(omniq_queue):
    assert_nothing_enqueued(omniq_queue)
    assert await omniq_queue.counts() == []
    async with worker_running(omniq_queue):
        assert await (await omniq_queue.enqueue(double, (2,))).result(60) == 4

{mark}
async def test_three_is_eager(omniq_queue, omniq_eager):
    assert omniq_eager(omniq_queue) is omniq_queue
    handle = await omniq_queue.enqueue(add, (1, 2), delay=60)
    assert await handle.status() == "success"

{mark}
async def test_four_travels(omniq_queue, omniq_clock):
    handle = await omniq_queue.enqueue(add, (1, 2), delay=60)
    assert (await drain(omniq_queue)).runs == ()
    omniq_clock.advance(60)
    assert (await drain(omniq_queue)).succeeded == 1
"""

BLOCKING = """
import threading
from omniq.testing import assert_enqueued, drain
from shop import add, thread

seen = []

def test_blocking(omniq_blocking_queue):
    seen.append(omniq_blocking_queue)
    handle = omniq_blocking_queue.enqueue(thread)
    assert_enqueued(omniq_blocking_queue, thread)
    drain(omniq_blocking_queue)
    assert handle.result() == threading.get_ident()

def test_blocking_and_eager(omniq_blocking_queue, omniq_eager, omniq_clock):
    assert omniq_blocking_queue not in seen
    queue = omniq_eager(omniq_blocking_queue, raise_errors=True)
    assert queue.enqueue(add, (1, 2)).result() == 3
"""

LOOPS = """
import asyncio
import pytest
from shop import add

def test_a_loop_that_the_test_makes(omniq_queue):
    async def main():
        return await (await omniq_queue.enqueue(add, (1, 2))).result()

    assert asyncio.run(main()) == 3

def test_a_loop_that_is_not_asyncios(omniq_queue):
    with pytest.raises(Exception, match="OmniQ runs on asyncio"):
        omniq_queue.enqueue(add, (1, 2)).send(None)

def test_unused(omniq_queue):
    pass
"""

CLOSED = """
import threading

def pytest_unconfigure():
    assert "omniq-loop" not in [thread.name for thread in threading.enumerate()]
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A suite of somebody else: nothing of this checkout's settings, warnings are errors."""
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    pytester.makepyfile(shop=TASKS)
    return pytester


def run(suite: pytest.Pytester, *args: str) -> pytest.RunResult:
    others = ("asyncio", "anyio", "cov", "hypothesispytest", "timeout", "django", "playwright")
    off = [word for other in others for word in ("-p", f"no:{other}") if other not in args]
    on = [arg for arg in args if arg.startswith("-")]
    return suite.runpytest_subprocess(*off, *on)


def test_with_pytest_asyncio(suite: pytest.Pytester) -> None:
    for scope in ("function", "session"):
        mark = f"import pytest\n@pytest.mark.asyncio(loop_scope={scope!r})"
        suite.makepyfile(**{f"test_{scope}": ASYNC.format(mark=mark)})
    result = run(suite, "asyncio", "-oasyncio_default_fixture_loop_scope=function")
    result.assert_outcomes(passed=8)
    assert result.ret == 0, result.stderr.str()


def test_with_pytest_asyncio_in_its_auto_mode(suite: pytest.Pytester) -> None:
    suite.makepyfile(ASYNC.format(mark=""))
    result = run(suite, "asyncio", "-oasyncio_mode=auto", "-Wdefault::pytest.PytestWarning")
    result.assert_outcomes(passed=4)


def test_with_anyio(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        "import pytest\n\n"
        "@pytest.fixture\n"
        "def anyio_backend():\n"
        "    return 'asyncio'\n" + ASYNC.format(mark="@pytest.mark.anyio")
    )
    run(suite, "anyio").assert_outcomes(passed=4)


def test_with_no_plugin_for_coroutines(suite: pytest.Pytester) -> None:
    suite.makeconftest(CLOSED)
    suite.makepyfile(test_blocking=BLOCKING, test_loops=LOOPS)
    result = run(suite)
    result.assert_outcomes(passed=5)
    assert result.ret == 0, result.stderr.str()


def test_a_failing_test_shows_what_was_enqueued(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        from shop import add

        def test_it(omniq_blocking_queue, omniq_eager):
            omniq_eager(omniq_blocking_queue).enqueue(add, (1, 2), delay=60)
            assert False

        def test_without_a_task(omniq_blocking_queue):
            assert False
    """)
    result = run(suite)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*- enqueued with OmniQ -*", "1. shop:add(1, 2)  delay=60"])
    assert result.stdout.str().count("enqueued with OmniQ") == 1


def test_a_suite_without_omniq_loads_nothing_of_it(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        import sys

        def test_it():
            assert "omniq.testing.plugin" in sys.modules, "the entry point is registered"
            heavy = ["omniq.core", "omniq.models", "msgspec", "litestar", "obstore", "click"]
            assert [name for name in heavy if name in sys.modules] == []
    """)
    run(suite).assert_outcomes(passed=1)


def test_the_fixtures_are_listed_with_what_they_are_for(suite: pytest.Pytester) -> None:
    result = run(suite, "--fixtures")
    result.stdout.fnmatch_lines(
        ["omniq_queue*", "*An AsyncOmniQ of this test alone, in memory.*", "omniq_eager*"]
    )


def test_it_can_be_turned_off(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        import sys

        def test_it():
            assert not any(name.startswith("omniq") for name in sys.modules)
    """)
    run(suite, "-pno:omniq").assert_outcomes(passed=1)
