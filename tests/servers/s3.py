"""moto's S3 server, in a process of its own: it knows `If-None-Match: *` since 5.0."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path

from .server import LOOPBACK, PATIENCE, Server

KEY, SECRET, REGION = "tests", "a-secret-of-tests", "us-east-1"
BUCKET = "omniq"
# moto looks for an object and puts it in two steps, so of two that come together both could win.
PROGRAM = """
from threading import Lock
from moto.s3.responses import S3Response
from moto.server import main
put, one = S3Response.put_object, Lock()
def put_object(self):
    with one:
        return put(self)
S3Response.put_object = put_object
main()
"""


class S3(Server):
    """An object store in memory: a `kill` empties it."""

    name = "S3 (moto)"

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://{LOOPBACK}:{self.port}"

    def command(self) -> list[str | Path]:
        return [sys.executable, "-c", PROGRAM, "-H", LOOPBACK, "-p", str(self.port)]

    def ready(self) -> bool:
        return self.request("GET", "/moto-api/data.json") == 200

    def make_bucket(self, name: str) -> None:
        assert self.request("PUT", f"/{name}") == 200

    def request(self, method: str, path: str) -> int:
        wire = http.client.HTTPConnection(LOOPBACK, self.port, timeout=PATIENCE / 2)
        try:
            headers = {"Authorization": f"AWS {KEY}:{SECRET}"}
            wire.request(method, path, headers=headers)
            answer = wire.getresponse()
            answer.read()
            return answer.status
        finally:
            wire.close()
