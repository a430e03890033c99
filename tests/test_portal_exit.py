"""The end of a process with a loop thread: nothing on standard error, whatever the way out."""

from __future__ import annotations

import signal
import subprocess
import sys
from textwrap import dedent

import pytest

PRELUDE = """
import asyncio, os, signal, sys, threading
from omniq._portal import portal

class Owner:
    async def close(self):
        await asyncio.sleep(0)
        print("closed", flush=True)

async def double(x):
    return 2 * x

async def forever():
    print("waiting", flush=True)
    await asyncio.Event().wait()

async def background():
    tasks.append(asyncio.get_running_loop().create_task(asyncio.sleep(1000)))

tasks = []
owner = Owner()
portal.keep(owner, owner.close)
portal.run(background)
print(portal.run(double, 21), flush=True)
"""


def script(body: str, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *flags, "-c", PRELUDE + dedent(body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_normal_exit() -> None:
    assert finish(script("", "-X", "dev")) == (0, "42\nclosed\n", "")


def test_sys_exit() -> None:
    assert finish(script("sys.exit(7)")) == (7, "42\nclosed\n", "")


def test_exit_by_an_exception_shows_only_that() -> None:
    status, out, err = finish(script("raise ValueError('mine')"))
    assert (status, out) == (1, "42\nclosed\n")
    assert err.startswith("Traceback")
    assert err.endswith("ValueError: mine\n")
    assert err.count("Traceback") == 1


def test_ctrl_c_while_waiting() -> None:
    process = script("""
        try:
            portal.run(forever)
        except KeyboardInterrupt:
            print("interrupted")
        """)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["42\n", "waiting\n"]
    process.send_signal(signal.SIGINT)
    assert finish(process) == (0, "interrupted\nclosed\n", "")


def test_daemon_threads_that_wait_end_in_peace() -> None:
    body = """
        began = threading.Event()
        async def begin():
            began.set()
            await forever()
        threading.Thread(target=portal.run, args=(begin,), daemon=True).start()
        began.wait(20)
        portal.run(asyncio.sleep, 0.05)
        """
    assert finish(script(body)) == (0, "42\nwaiting\nclosed\n", "")


def test_other_threads_may_call_until_they_end() -> None:
    body = """
        def late():
            threading.main_thread().join()
            print(portal.run(double, 4))
        threading.Thread(target=late).start()
        """
    assert finish(script(body)) == (0, "42\n8\nclosed\n", "")


def test_a_blocked_loop_does_not_hold_up_the_exit() -> None:
    body = """
        import time, omniq._portal
        omniq._portal.EXIT_SECONDS = 0.2
        blocked = threading.Event()
        async def block():
            blocked.set()
            time.sleep(1000)
        threading.Thread(target=portal.run, args=(block,), daemon=True).start()
        blocked.wait(20)
        """
    assert finish(script(body)) == (0, "42\n", "")


def test_a_call_in_a_running_loop() -> None:
    status, out, err = finish(script("""
        async def main():
            portal.run(double, 1)
        asyncio.run(main())
        """))
    assert (status, out) == (1, "42\nclosed\n")
    assert "SyncInAsync" in err.splitlines()[-1]


@pytest.mark.parametrize("leave", ["os._exit(5)", "sys.exit(5)"])
def test_a_forked_child_starts_its_own_loop(leave: str) -> None:
    body = f"""
        child = os.fork()
        if not child:
            assert not portal.running
            print("child", portal.run(double, 5), portal.generation, flush=True)
            {leave}
        status = os.waitpid(child, 0)[1]
        print("parent", os.waitstatus_to_exitcode(status), portal.run(double, 6))
        """
    # Python 3.12+ warns of any fork beside a thread; that is the caller's choice here.
    ignore = "ignore:This process:DeprecationWarning"
    assert finish(script(body, "-W", ignore)) == (
        0,
        "42\nchild 10 1\nparent 5 12\nclosed\n",
        "",
    )


def test_import_starts_no_thread() -> None:
    code = "import threading, omniq._portal; print(threading.active_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1\n", "")


def gevent_script(body: str) -> tuple[int, str, str]:
    code = "from gevent import monkey; monkey.patch_all()\n" + PRELUDE + dedent(body)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_under_gevent_the_loop_has_a_native_thread() -> None:
    """A greenlet would make every other greenlet see a running event loop."""
    body = """
        import gevent
        main = threading.get_native_id()
        async def native():
            await asyncio.sleep(0.01)
            return threading.get_native_id()
        found = [gevent.spawn(portal.run, native) for _ in range(20)]
        gevent.joinall(found, raise_error=True)
        assert {g.value for g in found}.isdisjoint({main}), "native thread"
        print(len({g.value for g in found}))
        """
    assert gevent_script(body) == (0, "42\n1\nclosed\n", "")


def test_under_gevent_a_killed_greenlet_cancels_its_call() -> None:
    body = """
        import os, gevent
        began = []
        async def forever():
            began.append(1)
            try:
                await asyncio.Event().wait()
            finally:
                os.write(1, b"cancelled\\n")  # in one piece: two threads write
                await asyncio.sleep(0.01)
        waiting = gevent.spawn(portal.run, forever)
        while not began:
            gevent.sleep(0.01)
        waiting.kill()
        os.write(1, b"killed\\n")
        for seconds in (0.1, 1, 10):  # a call that has not even begun leaves nothing to cancel
            with gevent.Timeout(seconds, False):
                portal.run(forever)
            if len(began) == 2:
                break
        os.write(1, b"left\\n")
        for seconds in (0.1, 1, 10):
            try:
                portal.run(forever, timeout=seconds)
            except TimeoutError:
                pass
            if len(began) > 2:
                break
        os.write(1, b"timeout\\n")
        """
    status, out, err = gevent_script(body)
    assert (status, err) == (0, "")
    assert out.splitlines()[:5] == ["42", "cancelled", "killed", "cancelled", "left"]
    assert {*out.splitlines()[5:]} == {"cancelled", "closed", "timeout"}
