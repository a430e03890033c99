"""The file and its directory: made private, and refused where SQLite would not be safe."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from omniq.errors import StorageError

# WAL keeps its index in memory shared by the processes of one machine; on these it cannot.
_NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "glusterfs", "gpfs", "lustre", "ncpfs"}
    | {"nfs", "nfs4", "smb3", "smbfs", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs"}
    | {"fuse.rclone", "fuse.s3fs", "fuse.sshfs"}
)
_making = threading.Lock()


def prepare(path: Path) -> None:
    """Make directory (0700) and file (0600) if they are missing, and check both."""
    folder = path.parent
    _make_folder(path, folder)
    check_filesystem(path)
    _make_file(path)
    check_access(path)


def _make_folder(path: Path, folder: Path) -> None:
    try:
        if not folder.exists():
            folder.mkdir(parents=True, mode=0o700, exist_ok=True)
            folder.joinpath(".gitignore").write_text("*\n")
    except OSError as error:
        raise _refuse(path, f"its directory cannot be made: {error.strerror}") from error


def check_filesystem(path: Path) -> None:
    """Refuse a network filesystem."""
    kind = filesystem(path.parent)
    if kind in _NETWORK:
        raise StorageError(
            f"SQLite cannot be used at {path}: {kind} is a network filesystem, and processes on "
            "two machines would corrupt the database. Use a local directory (base_dir), or a "
            "server such as PostgreSQL or Redis for several machines"
        )


def _make_file(path: Path) -> None:
    # Closing a file drops every lock this process holds on it, SQLite's too: so it is touched
    # only while it does not exist yet.
    with _making:
        if not path.exists():
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            except FileExistsError:
                pass
            except OSError as error:
                raise _refuse(path, f"the file cannot be made: {error.strerror}") from error


def check_access(path: Path) -> None:
    """Refuse what this user cannot write."""
    if path.is_dir():
        raise _refuse(path, "it is a directory")
    for what in (path, path.parent):
        if not os.access(what, os.R_OK | os.W_OK):
            raise _refuse(path, f"{what} cannot be written by this user")


def filesystem(folder: Path) -> str:
    """The type of the filesystem a directory is on; "" where the system does not say."""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    here = f"{folder.resolve()}/"
    for line in mounts:
        _, point, fs, *_ = line.split(" ")
        mount = point.replace("\\040", " ").rstrip("/") + "/"
        if here.startswith(mount) and len(mount) >= len(best):  # the last one mounted counts
            best, kind = mount, fs
    return kind


def _refuse(path: Path, why: str) -> StorageError:
    return StorageError(
        f"SQLite cannot be used at {path}: {why}. Set base_dir (OMNIQ_BASE_DIR), or the "
        "path in storage_url, to a local directory this user may write"
    )
