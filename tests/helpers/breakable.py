"""One hospital whose only way to the coordinator a test can break, and the coordinator's asker: for real processes.

`Line` is the hospital's HTTP proxy (CONNECT) with a TLS end of its own behind it, so that it can lie. `Hospital` asks
questions through the whole federation and finds the courier's processes.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fedloupe_server.hub.deployment as hub


class Line:
    """The only way to the coordinator: an HTTP proxy that knows CONNECT, and behind it a line that tests break.

    TLS ends at the real proxy, so a false answer can only be given by a TLS end of our own: `lie` does that.
    """

    def __init__(self) -> None:
        self.target, self.certificate, self.up = 0, None, True
        self.lies: list[tuple[bytes, int]] = []  # (route, status): answered once
        self.told: list[bytes] = []
        self.traps: dict[bytes, Callable[[], None]] = {}  # (route): called once, the request goes nowhere
        self.connects: list[str] = []
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        line = self

        class Proxy(BaseHTTPRequestHandler):
            def do_CONNECT(self):
                line.connects.append(self.path)
                if not line.up:
                    self.send_error(503)
                    return
                self.send_response(200)
                self.end_headers()
                line.carry(self.connection)
                self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def carry(self, near: socket.socket) -> None:
        """End TLS here, with the coordinator's own certificate, and speak to the real proxy, request by request."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate / "server.crt", self.certificate / "server.key")
        trust = ssl.create_default_context(cafile=self.certificate / "ca.crt")
        with contextlib.suppress(OSError), context.wrap_socket(near, server_side=True) as inner:
            self._open.append(inner)
            while (request := read_http(inner)) and self.up:
                route = request.split(b" ", 2)[1]
                if (trap := self.traps.pop(route, None)) is not None:
                    trap()
                    break
                if (lie := self._lie(route)) is not None:
                    inner.sendall(b"HTTP/1.1 %d Lie\r\ncontent-length: 0\r\n\r\n" % lie[1])
                    continue
                with (
                    socket.create_connection(("127.0.0.1", self.target)) as raw,
                    trust.wrap_socket(raw, server_hostname="localhost") as far,
                ):
                    far.sendall(request)
                    answer = read_http(far)
                if not self.up:
                    break
                inner.sendall(answer)

    def _lie(self, route: bytes) -> tuple[bytes, int] | None:
        """The first lie for this route, which is told now."""
        with self._lock:
            lie = next((one for one in self.lies if route == one[0]), None)
            if lie is not None:
                self.lies.remove(lie)
                self.told.append(route)
        return lie

    def cut(self) -> None:
        self.up = False
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()


def read_http(stream: ssl.SSLSocket) -> bytes:
    """One request or response with a content-length."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (part := stream.recv(65536)):
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(h.split(b":")[1]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length")), 0)
    while len(body) < length:
        if not (part := stream.recv(65536)):
            return b""
        body += part
    return head + b"\r\n\r\n" + body


class Hospital:
    """The hospital under test and the coordinator's asker."""

    def __init__(self, federation: hub.Federation, line: Line, asks: Path, asked: Path) -> None:
        self.federation, self.line, self._asks, self._asked = federation, line, asks, asked
        self._count = 0
        self.folder = federation.hospitals["north"].folder

    @property
    def state(self) -> dict:
        return json.loads((self.folder / "courier-state.json").read_text())

    def ask(self, seconds: float) -> int:
        """Ask for an answer that takes the site so long."""
        number, self._count = self._count, self._count + 1
        part = self._asks / f"{number}.new"
        part.write_text(f"{seconds} question {number}")
        part.rename(self._asks / f"{number}.ask")
        return number

    def answer(self, number: int, timeout_s: float = 600.0) -> dict:
        file = self._asks / f"{number}.answer"
        self.until(file.is_file, timeout_s)
        answer = json.loads(file.read_text())
        print(answer)
        return answer

    def succeeds(self, number: int) -> dict:
        answer = self.answer(number)
        text = (self._asks / f"{number}.ask").read_text()
        assert answer["reply"] == f"answer to {text}", answer
        return answer

    def deliveries(self, number: int) -> int:
        """How often the site was asked this."""
        lines = self._asked.read_text().splitlines() if self._asked.is_file() else []
        return sum(line.endswith(f"question {number}") for line in lines)

    def at_work(self, number: int) -> None:
        self.until(lambda: self.deliveries(number) > 0, 300.0)

    def idle(self) -> None:
        """Wait until the courier has nothing in hand, and its supervisor knows."""

        def put_down() -> bool:
            log, in_hand = self.log(), (self.folder / "in-hand.json").exists()
            return not in_hand and log.rfind('"event": "message-answered"') > log.rfind('"event": "message",')

        self.until(put_down, 300.0)

    def until(self, true: Callable[[], bool], timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < end, (self.state, self.log()[-3000:])
            self.federation.processes.check()
            time.sleep(0.05)

    def log(self) -> str:
        return (self.federation.coordinator.work / "logs" / "courier-north.log").read_text()

    @property
    def supervisor(self) -> int:
        return self.federation.processes.running["courier-north"].process.pid

    def pid(self, name: str) -> int:
        """Process id of `supernode` or `executor`; one that is being started again is waited for."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            for folder in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                    if parent == self.supervisor and f"courier.{name}" in (folder / "cmdline").read_text():
                        return int(folder.name)
            time.sleep(0.2)
        raise AssertionError(f"no {name}")
