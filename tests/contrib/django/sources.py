"""The source distribution of the Django that is installed, from the package index in use.

It is kept in the user's cache: Django's tests are in no wheel, and are not ours to copy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import django


def django_tests() -> Path:
    """The folder `tests` of the installed version's sources; fetched once per machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "omniq-tests"
    folder = cache / f"django-{django.get_version()}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as made:
            found = _fetch(Path(made))
            try:
                found.rename(folder)
            except OSError:  # another run was faster
                shutil.rmtree(found)
    return folder / "tests"


def _fetch(to: Path) -> Path:
    version = django.get_version()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary"]
    subprocess.run(
        [*command, "Django", "--dest", str(to), f"Django=={version}"],
        check=True,
        timeout=300,
        env=os.environ | _index(),
    )
    (archive,) = to.glob("*.tar.gz")
    with tarfile.open(archive) as sources:
        sources.extractall(to, filter="data")
    (folder,) = (each for each in to.iterdir() if each.is_dir())
    return folder


def _index() -> dict[str, str]:
    """pip asks the index uv was told to ask, unless it was told one itself."""
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL")
    return {} if index is None or "PIP_INDEX_URL" in os.environ else {"PIP_INDEX_URL": index}
