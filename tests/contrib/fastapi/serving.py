"""Real web servers for these tests, and clients as browsers behind a proxy are."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.programs import PATIENCE, ROOT, Program, free_port

READY = {
    "uvicorn": r"Uvicorn running on (http://\S+)",
    "granian": r"Started worker-1\n",
    "gunicorn": r"Application startup complete|ASGI server listening",
}


class Web(Program):
    """A server with one of the apps of `served.py`, or with the app `module:name`."""

    def __init__(
        self,
        server: str,
        app: str,
        *options: str,
        cwd: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.server, port = server, str(free_port())
        factory = [] if ":" in app else ["--factory"]
        target = app if ":" in app else f"tests.contrib.fastapi.served:{app}"
        command = {
            "uvicorn": ["-m", "uvicorn", target, *factory, "--port", port],
            "granian": ["-m", "granian", target, *factory, "--port", port, "--interface", "asgi"],
            "gunicorn": [
                "-m",
                "gunicorn",
                f"{target}()",
                "--bind",
                f"127.0.0.1:{port}",
                "--no-control-socket",
            ],
        }[server]
        self.url = f"http://127.0.0.1:{port}"
        super().__init__([*command, *options], cwd=cwd, env=env, paths=[cwd, ROOT])

    def __exit__(self, *_: object) -> None:
        # Some servers have children: what would be left of them goes too.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        super().__exit__(*_)

    def client(self, *, strip: str = "", **options: object) -> httpx.Client:
        """A browser; `strip` is what a proxy before the server takes off every path."""
        transport = Stripping(strip)
        return httpx.Client(base_url=self.url, transport=transport, timeout=PATIENCE, **options)  # type: ignore[arg-type]

    @property
    def dashboard(self) -> str:
        """The token's link as the server printed it, without the address."""
        return self.says(r"OmniQ dashboard: \S*?(/[^\s:]*\?token=\S+)")[1]


@contextmanager
def serving(
    server: str, app: str, *options: str, cwd: Path, env: Mapping[str, str] | None = None
) -> Iterator[Web]:
    """A server that is up; on leaving the block it is gone."""
    with Web(server, app, *options, cwd=cwd, env=env) as web:
        web.says(READY[server])
        yield web


class Stripping(httpx.HTTPTransport):
    """A proxy that strips a prefix, and answers nothing outside of it."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        if not path.startswith(self._prefix):
            return httpx.Response(404, text="not behind this proxy")
        inner = request.url.copy_with(raw_path=(path[len(self._prefix) :] or "/").encode())
        sent = httpx.Request(
            request.method, inner, headers=request.headers, stream=request.stream,
            extensions=request.extensions,
        )  # fmt: skip
        return super().handle_request(sent)


def links_of(html: str) -> Sequence[str]:
    """Every path of this host that a page points to."""
    return re.findall(r'(?:href|src|action)="(/[^"#?]*)', html)
