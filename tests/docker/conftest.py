"""Where the files of docker/ are, the TLS files of a founded federation, and a stand-in for its SuperLink."""

from __future__ import annotations

import http.server
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from federations import found

DOCKER = Path(__file__).parents[2] / "docker"


@pytest.fixture(scope="session")
def docker() -> Path:
    return DOCKER


@pytest.fixture(scope="session")
def tls(tmp_path_factory) -> Path:
    """FED/tls, as `fedloupe provision` makes it."""
    folder = tmp_path_factory.mktemp("founded") / "FED"
    found(folder)
    return folder / "tls"


@dataclass
class Upstream:
    """Answers every request over TLS, and remembers which came."""

    port: int
    seen: list = field(default_factory=list)
    status: int = 200


@pytest.fixture(scope="module")
def upstream_once(tls):
    upstream = Upstream(0)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            upstream.seen.append((self.command, self.path, body, dict(self.headers)))
            self.send_response(upstream.status)
            self.send_header("content-length", "6")
            self.send_header("x-flower", "kept")
            self.end_headers()
            self.wfile.write(b"answer")

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = answer

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls / "server.crt", tls / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    upstream.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield upstream
    server.shutdown()
    server.server_close()


@pytest.fixture
def upstream(upstream_once):
    upstream_once.seen.clear()
    upstream_once.status = 200
    return upstream_once
