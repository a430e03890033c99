"""Functions and classes of `__main__`: scripts, -m, -c and standard input, in real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PRELUDE = """
import sys
from pathlib import Path
from omniq.serialization import *
manager = SerializationManager(KeyRing.local(".omniq"))

def binding(name):
    return Binding("default", "default", "id", "args", name)

def send(func, *args):
    ref = FUNCTIONS.refer(func)
    Path("call").write_bytes(manager.encode_call(args, {}, binding(ref.name), ref))
    Path("name").write_text(ref.name)
    print(ref.travel)

def run():
    name = Path("name").read_text()
    call = manager.decode_call(Path("call").read_bytes(), binding(name))
    try:
        func = call.func or FUNCTIONS.resolve(name, signed=call.signed)
    except Exception as error:
        print(type(error).__name__, error)
    else:
        print(func(*call.args))
"""
ENDING = "\n{'send': lambda: send(my_task, 2), 'run': run}[sys.argv[1]]()\n"


def python(folder: Path, *argv: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *argv],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.strip()


def script(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(PRELUDE + body + ENDING)


def test_two_scripts_in_one_directory_never_run_each_others_function(tmp_path: Path) -> None:
    script(tmp_path, "one.py", "def my_task(x): return f'one {x}'")
    script(tmp_path, "two.py", "def my_task(x): return f'two {x}'")
    assert python(tmp_path, "one.py", "send") == "signed"
    other = python(tmp_path, "two.py", "run")
    assert other.startswith("FunctionNotFound")
    assert "run `python one.py` again" in other
    assert python(tmp_path, "one.py", "run") == "one 2"


def test_a_script_finds_itself_by_any_path(tmp_path: Path) -> None:
    script(tmp_path, "one.py", "def my_task(x): return f'one {x}'")
    (tmp_path / "link.py").symlink_to(tmp_path / "one.py")
    python(tmp_path, "./one.py", "send")
    assert python(tmp_path, str(tmp_path / "one.py"), "run") == "one 2"
    assert python(tmp_path, "link.py", "run") == "one 2"


def test_a_module_started_with_m_has_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").touch()
    script(tmp_path, "pkg/jobs.py", "def my_task(x): return f'{__name__} {x}'")
    assert python(tmp_path, "-m", "pkg.jobs", "send") == "signed"
    assert (tmp_path / "name").read_text() == "pkg.jobs:my_task"
    assert python(tmp_path, "-m", "pkg.jobs", "run") == "__main__ 2"
    worker = PRELUDE + "import sys; sys.path.insert(0, '.')\n"
    # The module looks at its arguments when it is imported, as the script it also is.
    assert python(tmp_path, "-c", worker + "sys.argv = ['', 'send']; run()").endswith("pkg.jobs 2")


def test_an_interactive_session_is_known_to_itself_only(tmp_path: Path) -> None:
    body = PRELUDE + "def my_task(x): return f'here {x}'\n"
    assert python(tmp_path, "-c", body + "send(my_task, 2); run()") == "name\nhere 2"
    assert "has ended: put it into a file" in python(tmp_path, "-c", body + "run()")
    assert python(tmp_path, "-", stdin=body + "send(my_task, 2); run()") == "name\nhere 2"


def test_a_lambda_of_a_script_sees_the_scripts_own_globals(tmp_path: Path) -> None:
    body = (
        "seen = []\ndef helper(x): return x * 2\nmy_task = lambda x: seen.append(x) or helper(x)\n"
        "def both(): send(my_task, 2); run(); print(seen)\n"
    )
    script(tmp_path, "one.py", body + "if sys.argv[1] == 'both': both(); sys.exit()")
    assert python(tmp_path, "one.py", "both") == "carried\n4\n[2]"
    # Elsewhere it brings copies of what it uses.
    assert python(tmp_path, "-c", PRELUDE + "run()") == "4"


def test_objects_of_a_scripts_class_keep_their_class(tmp_path: Path) -> None:
    body = (
        "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\n"
        "    def double(self): return self.x * 2\n"
        "def my_task(x): return x\n"
        "def both():\n"
        "    b = binding('f')._replace(field='result')\n"
        "    found = manager.decode_value(manager.encode_value([Point(3)], b), b)\n"
        "    print(found == [Point(3)], type(found[0]) is Point)\n"
        "    Path('point').write_bytes(manager.encode_value(Point(4), b))\n"
    )
    script(tmp_path, "one.py", body + "if sys.argv[1] == 'both': both(); sys.exit()")
    assert python(tmp_path, "one.py", "both") == "True True"
    elsewhere = "b = binding('f')._replace(field='result')\nprint(manager.decode_value(Path('point').read_bytes(), b).double())"
    assert python(tmp_path, "-c", PRELUDE + elsewhere) == "8"


def test_a_lambda_whose_globals_cannot_travel_stays_with_its_script(tmp_path: Path) -> None:
    body = "import threading\nlock = threading.Lock()\nmy_task = lambda x: lock.locked()\n"
    script(tmp_path, "one.py", body)
    assert python(tmp_path, "one.py", "send") == "carried"
    assert python(tmp_path, "one.py", "run") == "False"


@pytest.mark.parametrize("plain", ["(5, 10)", "('a', [1, {'b': 2.5}])"])
def test_dill_is_not_imported_for_plain_work(tmp_path: Path, plain: str) -> None:
    body = (
        f"def my_task(*a): return a\nsend(my_task, *{plain}); run()\nprint('dill' in sys.modules)"
    )
    (tmp_path / "one.py").write_text(PRELUDE + body)
    assert python(tmp_path, "one.py").endswith("False")
