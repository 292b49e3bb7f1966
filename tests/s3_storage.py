"""A real S3 protocol server, moto's, in a process of its own; and a proxy before it that makes trouble."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "wJalrXUtnFEMI-the-secret-of-this-test"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAOFTHISTEST",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def s3_server() -> Iterator[str]:
    """The server's address, while it runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(3000):
            assert process.poll() is None, "moto's server ended"
            with suppress(OSError):
                urllib.request.urlopen(address, timeout=5).close()
                break
            time.sleep(0.1)
        else:
            raise AssertionError("moto's server does not answer")
        yield address
    finally:
        process.kill()
        process.wait()


def make_bucket(server: str, name: str) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{server}/{name}", method="PUT"), timeout=30).close()


HOP_BY_HOP = ("connection", "transfer-encoding", "expect")
"""Headers that are no business of whoever is behind a proxy."""


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding") != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length") or 0))
    parts = []
    while size := int(request.rfile.readline(), 16):
        parts.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(parts)


class TroubledProxy:
    """Passes requests on to `server`; some fail, all come late, or none is let through."""

    def __init__(self, server: str) -> None:
        self.server = server.removeprefix("http://")
        self.failing, self.seconds_late = 0.0, 0.0
        self.down = False
        """Whether connections are dropped."""
        self.answer: tuple[int, str] | None = None
        """Status and code of an error that is every request's answer."""
        self.answer_without_key: tuple[int, str] | None = None
        """The same for requests that nobody signed."""
        self.requests, self.failed = 0, 0
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def handle_any(self) -> None:
                proxy.handle(self)

        for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.handle_any)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = _body(request)
        with self._lock:  # others come while this one is late
            self.requests += 1
            due = int(self.requests * self.failing) > int((self.requests - 1) * self.failing)
        time.sleep(self.seconds_late)
        if self.down:
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        error = self.answer
        if error is None and "Authorization" not in request.headers:
            error = self.answer_without_key
        if error is None and due:
            self.failed += 1
            error = [(500, "InternalError"), (503, "SlowDown")][self.failed % 2]
        if error is not None:
            text = f"<?xml version='1.0'?><Error><Code>{error[1]}</Code><Message>no</Message></Error>"
            self._reply(request, error[0], {}, text.encode())
            return
        connection = http.client.HTTPConnection(self.server, timeout=60)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        connection.request(request.command, request.path, body, headers)
        answer = connection.getresponse()
        self._reply(request, answer.status, dict(answer.getheaders()), answer.read())
        connection.close()

    def _reply(
        self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes
    ) -> None:
        request.send_response_only(status)
        named = {name.lower() for name in headers}
        for name, value in headers.items():
            if name.lower() not in HOP_BY_HOP:
                request.send_header(name, value)
        if "content-length" not in named:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)
