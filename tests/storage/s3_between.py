"""Stands between a client and an S3 server, and does what a healthy server never does."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

Answer = tuple[int, bytes]
Fault = Callable[["Request"], "Answer | str | None"]
"""Given a request: an answer in the server's stead, "strip" to take the condition away, "lose"
to pass it on and cut the line before the answer, or None to pass it on and back."""


class Request:
    def __init__(self, method: str, path: str, conditional: bool) -> None:
        self.method, self.path, self.conditional = method, path, conditional


class Between:
    """`fault` may be set at any time; `seen` has every request."""

    def __init__(self, server: str) -> None:
        self.fault: Fault = lambda request: None
        self.seen: list[Request] = []
        self.later = 0
        """Seconds by which the server's stamps are put ahead."""
        self.server = urlsplit(server)
        self.url = ""

    def first(self, times: int, method: str, answer: Answer | str) -> None:
        """Do so with the first few requests of a method, and let the others pass."""
        left = [times]

        def fault(request: Request) -> Answer | str | None:
            if request.method == method and left[0]:
                left[0] -= 1
                return answer
            return None

        self.fault = fault


def refusal(status: int, code: str, text: str = "no") -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{text}</Message></Error>"
    return status, body.encode()


@contextmanager
def between(server: str) -> Iterator[Between]:
    plan = Between(server)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                raise AssertionError("a chunked body was not expected")
            request = Request(self.command, self.path, "If-None-Match" in self.headers)
            plan.seen.append(request)
            action = plan.fault(request)
            if isinstance(action, tuple):
                self.answer(action[0], [("Content-Type", "application/xml")], action[1])
                return
            headers = dict(self.headers)
            if action == "strip":
                headers = {k: v for k, v in headers.items() if k.lower() != "if-none-match"}
            wire = http.client.HTTPConnection(plan.server.hostname or "", plan.server.port)
            try:
                wire.request(self.command, self.path, body, headers)
                reply = wire.getresponse()
                data = reply.read()
                if action == "lose":
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.answer(reply.status, self.shifted(reply.getheaders()), data)
            finally:
                wire.close()

        def shifted(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
            from email.utils import formatdate, parsedate_to_datetime

            return [
                (
                    name,
                    (
                        formatdate(
                            parsedate_to_datetime(value).timestamp() + plan.later, usegmt=True
                        )
                        if name.lower() == "last-modified"
                        else value
                    ),
                )
                for name, value in headers
            ]

        def answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
            self.send_response_only(status)
            length = str(len(data))
            for name, value in headers:
                if name.lower() == "content-length" and self.command == "HEAD":
                    length = value
                elif name.lower() not in ("content-length", "connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        proxy.daemon_threads = True
        plan.url = f"http://127.0.0.1:{proxy.server_address[1]}"
        thread = Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield plan
        finally:
            proxy.shutdown()
            thread.join()
