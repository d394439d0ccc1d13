"""Real nginx and real Caddy with the files of docker/: what passes, what never reaches the SuperLink, what a 500 is.

Each is asked over a socket, line by line, so that no client tidies a path before it is sent.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import time

import pytest

from federations import found
from fedloupe_server.hub.processes import free_ports
from fedloupe_server.hub.proxy import MAX_BODY

CADDY = (2, 8)
FILES = {"nginx": "nginx.conf", "caddy": "Caddyfile"}


def program(name: str) -> str:
    """Path of a proxy's program; Debian keeps nginx where only root looks."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        if name == "nginx" and os.environ.get("CI"):
            pytest.fail("no nginx is installed, and CI requires it")
        pytest.skip(f"{name} is not installed")
    if name == "caddy":
        said = subprocess.run([found, "version"], capture_output=True, text=True, check=True).stdout
        if tuple(int(part) for part in re.findall(r"\d+", said)[:2]) < CADDY:
            pytest.skip(f"Caddy {said.split()[0]} is older than {CADDY}, which docker/Caddyfile asks for")
    return found


def start(name, docker, tls, folder, upstream_port):
    """The proxy on a free loopback port, with the repository's file but for ports and folders."""
    (port,) = free_ports(1)
    text = (docker / FILES[name]).read_text(encoding="utf-8")
    changes = {":8443 {": f":{port} {{\n\tbind 127.0.0.1", "listen 8443 ssl": f"listen 127.0.0.1:{port} ssl"}
    changes |= {"127.0.0.1:9092": f"127.0.0.1:{upstream_port}", "/tmp/": f"{folder}/", f"/etc/{name}/tls": str(tls)}
    for old, new in changes.items():
        text = text.replace(old, new)
    if name == "nginx" and os.getuid() == 0:
        text = f"user root;\n{text}"  # its workers must write in the test's folder, as in /tmp of the container
    config = folder / FILES[name]
    config.write_text(text, encoding="utf-8")
    words = {
        "nginx": [program(name), "-c", str(config), "-p", str(folder), "-g", "daemon off;"],
        "caddy": [program(name), "run", "--config", str(config), "--adapter", "caddyfile"],
    }[name]
    env = {**os.environ, "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    process = subprocess.Popen(words, env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    end = time.monotonic() + 120.0
    while time.monotonic() < end:
        assert process.poll() is None, process.stderr.read().decode()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process, port
        time.sleep(0.05)
    process.kill()
    raise AssertionError("never ready")


class Front:
    """One running proxy, asked over a raw socket."""

    def __init__(self, port, tls) -> None:
        self.port = port
        self._context = ssl.create_default_context(cafile=tls / "ca.crt")

    def ask(self, path, method="POST", body=b"body", headers=()):
        """Status and whole answer to one request, written as given."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
        lines.append(f"Content-Length: {len(body)}")
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=120.0) as plain,
            self._context.wrap_socket(plain, server_hostname="localhost") as line,
        ):
            answer = b""
            with contextlib.suppress(OSError):  # refused before all of it was sent: the answer is there
                line.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
            with contextlib.suppress(OSError):
                while part := line.recv(65536):
                    answer += part
        return int(answer.split(b" ", 2)[1]) if answer else None, answer


@pytest.fixture(scope="module", params=sorted(FILES))
def front(request, docker, tls, tmp_path_factory, upstream_once):
    folder = tmp_path_factory.mktemp(request.param)
    process, port = start(request.param, docker, tls, folder, upstream_once.port)
    yield Front(port, tls)
    process.terminate()
    process.wait(60.0)


class TestWhatPasses:
    @pytest.mark.parametrize("verb", ["activate-node", "pull-messages", "push-object", "get-fab"])
    def test_fleet_routes_with_their_body_and_signature(self, front, upstream, verb):
        status, answer = front.ask(f"/v1/fleet/{verb}", headers=["flwr-signature: abc"])
        assert status == 200 and answer.endswith(b"answer") and b"x-flower: kept" in answer.lower()
        ((method, path, body, headers),) = upstream.seen
        assert (method, path, body) == ("POST", f"/v1/fleet/{verb}", b"body")
        assert {name.lower(): value for name, value in headers.items()}["flwr-signature"] == "abc"

    def test_a_piece_of_a_model(self, front, upstream):
        piece = bytes(5 * 2**20)  # Flower's largest
        assert front.ask("/v1/fleet/push-object", body=piece)[0] == 200
        assert upstream.seen[0][2] == piece

    def test_a_refusal_of_the_superlink(self, front, upstream):
        upstream.status = 401
        assert front.ask("/v1/fleet/pull-messages")[0] == 401


class TestWhatDoesNot:
    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/docs",
            "/openapi.json",
            "/health",
            "/metrics",
            "/v1/control/start-run",
            "/v1/runtime/acquire-task",
            "/v1/fleet",
            "/v1/fleet/",
            "/v1/fleet/../control/start-run",
            "/v1/fleet/..%2fcontrol%2fstart-run",
            "/v1/fleet/%2e%2e/control/start-run",
            "/v1/fleet/x%2f..%2f..%2fcontrol%2fstart-run",
            "/v1/%66leet/pull-messages",
            "/v1/fleet//control",
            "//v1/fleet/pull-messages",
            "/V1/FLEET/pull-messages",
            "/v1/fleet/pull-messages/more",
            "/v1/fleet/pull-messages?x=1",
            "/v1/fleet/pull-messages?",
            "/v1/fleet/pull-messages%0d%0a",
            "/v1/fleet/pull-messages;x",
            "/v1/fleet/pull-messages#x",
            "https://localhost/v1/control/start-run",
        ],
    )
    def test_any_other_path_never_reaches_the_superlink(self, front, upstream, path):
        status, _ = front.ask(path)
        assert status in (400, 404) and upstream.seen == []

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"])
    def test_any_other_method(self, front, upstream, method):
        status, _ = front.ask("/v1/fleet/pull-messages", method=method, body=b"")
        assert status in (400, 404, 405) and upstream.seen == []

    def test_a_body_beyond_the_limit(self, front, upstream):
        status, _ = front.ask("/v1/fleet/push-object", body=bytes(MAX_BODY + 1))
        assert status == 413 and not any(len(body) > MAX_BODY for _, _, body, _ in upstream.seen)


class TestAFailingSuperLink:
    @pytest.mark.parametrize("status", [500, 502, 504])
    def test_is_one_that_may_be_asked_again(self, front, upstream, status):
        upstream.status = status
        assert front.ask("/v1/fleet/pull-messages")[0] == 503

    @pytest.mark.parametrize("name", sorted(FILES))
    def test_an_absent_one_too(self, docker, tls, tmp_path, name):
        process, port = start(name, docker, tls, tmp_path, free_ports(1)[0])
        try:
            assert Front(port, tls).ask("/v1/fleet/pull-messages")[0] == 503
        finally:
            process.terminate()
            process.wait(60.0)

    @pytest.mark.parametrize("name", sorted(FILES))
    def test_one_with_a_certificate_of_another_authority_is_not_asked(self, docker, tls, tmp_path, upstream, name):
        found(tmp_path / "other")
        process, port = start(name, docker, tmp_path / "other" / "tls", tmp_path, upstream.port)
        try:
            assert Front(port, tmp_path / "other" / "tls").ask("/v1/fleet/pull-messages")[0] == 503
            assert upstream.seen == []
        finally:
            process.terminate()
            process.wait(60.0)
