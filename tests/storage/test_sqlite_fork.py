"""A fork in the middle of writing: parent and children go on, each with connections of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, sys, threading
from omniq.models import PutDoc
from omniq.storage import SQLiteStorage

CHILDREN = 30

def write(place, kind, n):
    place.apply([PutDoc(kind=kind, key=f"{n:04}", value=b"x", expect=0)])

def writing():
    while not done.is_set():
        write(place, "parent", counted[0])
        counted[0] += 1

place = SQLiteStorage("tasks.db")
place.open()
counted, done = [0], threading.Event()
thread = threading.Thread(target=writing)
thread.start()
statuses = []
for number in range(CHILDREN):
    before = counted[0]
    pid = os.fork()
    if pid == 0:
        place.open()  # the parent's connections are the parent's
        for n in range(3):
            write(place, f"child-{number}", n)
        seen = len(place.get_docs("parent", limit=100_000))
        place.close()
        os._exit(0 if seen >= before else 1)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
done.set()
thread.join()
print(statuses)
print(len(place.get_docs("parent", limit=100_000)) == counted[0])
print([len(place.get_docs(f"child-{number}")) for number in range(CHILDREN)])
"""


def test_nothing_is_lost_or_stuck(tmp_path: Path) -> None:
    ignore = "ignore:This process:DeprecationWarning"  # forking beside threads is the point
    done = subprocess.run(
        [sys.executable, "-W", ignore, "-c", PROGRAM],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{[0] * 30}\nTrue\n{[3] * 30}\n"
