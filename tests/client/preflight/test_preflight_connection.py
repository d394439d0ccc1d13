"""The connection against a real TLS server on loopback: trusted, expired, strange, silent, and with a wrong clock."""

from __future__ import annotations

import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedloupe_client.config import Connection
from fedloupe_client.preflight.connection import look_at_connection

Serve = Callable[..., Connection]


class Authority:
    """A certificate authority that issues for one address."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._sign(self.name, self.key.public_key(), 400, x509.BasicConstraints(True, None))

    def _sign(self, subject, public, days, *extensions) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=800))
            .not_valid_after(now + timedelta(days=days, hours=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, folder: Path, days: int, address: str) -> Path:
        """Key and certificate for an address in one PEM file."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address)), x509.DNSName("coordinator.test")])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "coordinator")])
        certificate = self._sign(subject, key.public_key(), days, names)
        path = folder / "server.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        return path


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a server; the way to it, with its authority's certificate in the home folder."""
    servers = []

    def start(days: int = 90, clock_s: float = 0.0, address: str = "127.0.0.1") -> Connection:
        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_error(404)

            def date_time_string(self, timestamp=None) -> str:
                return format_datetime(datetime.now(UTC) - timedelta(seconds=clock_s), usegmt=True)

            def log_message(self, *_: object) -> None:
                return

        authority = Authority()
        (tmp_path / "ca.crt").write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.issue(tmp_path, days, address))
        server = HTTPServer(("127.0.0.1", 0), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return Connection(server=f"127.0.0.1:{server.server_port}", root_certificate=Path("ca.crt"))

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Door:
    """A CONNECT proxy on loopback: it notes what it is asked, and answers with `status`, or closes where that is 0."""

    def __init__(self, status: int = 200, user: str = "") -> None:
        self.asked: list[str] = []
        self._status, self._user = status, user
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (got := client.recv(4096)):
            head += got
        lines = head.decode().split("\r\n")
        self.asked.append(lines[0])
        status = self._status
        if self._user and f"Proxy-Authorization: Basic {b64encode(self._user.encode()).decode()}" not in lines:
            status = 407
        if status == 0:
            client.close()
            return
        client.sendall(f"HTTP/1.1 {status} said <b>{'x' * 300}\r\n\r\n".encode())
        if status == 200:
            host, _, port = lines[0].split()[1].rpartition(":")
            behind = socket.create_connection((host, int(port)))
            threading.Thread(target=self._pump, args=(behind, client), daemon=True).start()
            self._pump(client, behind)
        client.close()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while got := source.recv(65536):
                sink.sendall(got)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def door() -> Iterator[Callable[..., Door]]:
    doors = []

    def start(**how) -> Door:
        doors.append(Door(**how))
        return doors[-1]

    yield start
    for one in doors:
        one.close()


class TestAProxy:
    @pytest.mark.parametrize(
        ("variable", "address"),
        [
            ("HTTPS_PROXY", "http://127.0.0.1:{}"),
            ("https_proxy", "http://127.0.0.1:{}/"),
            ("HTTPS_PROXY", "127.0.0.1:{}"),
            ("ALL_PROXY", "http://127.0.0.1:{}"),
        ],
    )
    def test_is_gone_through_and_named(self, serve, door, tmp_path, monkeypatch, variable, address):
        connection, proxy = serve(), door()
        monkeypatch.setenv(variable, address.format(proxy.port))
        link, findings = look_at_connection(connection, tmp_path)
        assert findings == []
        assert (link.state, link.proxy) == ("ok", f"127.0.0.1:{proxy.port}")
        assert (link.days_left, link.names[0]) == (90, "127.0.0.1")
        assert [line.split()[:2] for line in proxy.asked] == [["CONNECT", connection.server]]

    def test_is_told_its_user_who_is_told_to_nobody_else(self, serve, door, tmp_path, monkeypatch):
        proxy = door(user="data manager:p@ss:word")
        monkeypatch.setenv("HTTPS_PROXY", f"http://data%20manager:p%40ss%3Aword@127.0.0.1:{proxy.port}")
        link, findings = look_at_connection(serve(), tmp_path)
        assert (link.state, findings) == ("ok", [])
        assert "manager" not in link.model_dump_json()

    @pytest.mark.parametrize(
        ("how", "words", "remedy"),
        [
            ({"status": 403}, "refuses the way to 127.0.0.1:", "ask your network team"),
            ({"status": 502}, "(502)", "ask your network team"),
            ({"status": 407}, "does not accept the user name and password", "HTTPS_PROXY=http://USER:PASSWORD@"),
            ({"status": 0}, "gave no answer", "NO_PROXY"),
        ],
    )
    def test_that_does_not_open_the_way_is_named_without_its_user(
        self, serve, door, tmp_path, monkeypatch, how, words, remedy
    ):
        proxy = door(**how)
        monkeypatch.setenv("HTTPS_PROXY", f"http://manager:geheim@127.0.0.1:{proxy.port}")
        link, findings = look_at_connection(serve(), tmp_path)
        assert (link.state, link.proxy) == ("failed", f"127.0.0.1:{proxy.port}")
        assert [(f.code, f.severity) for f in findings] == [("FL-642", "fix")]
        assert words in findings[0].what and f"the proxy 127.0.0.1:{proxy.port}" in findings[0].what
        assert remedy in findings[0].remedy
        everything = link.model_dump_json() + findings[0].model_dump_json()
        assert "geheim" not in everything and "manager" not in everything and "xxx" not in everything

    def test_that_asks_for_a_user_is_told_apart(self, serve, door, tmp_path, monkeypatch):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{door(user='somebody:else').port}")
        _, findings = look_at_connection(serve(), tmp_path)
        assert "asks for a user (407)" in findings[0].what

    def test_that_is_not_there_is_named(self, serve, tmp_path, monkeypatch):
        with socket.socket() as taken:  # bound, not listening
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
            _, findings = look_at_connection(serve(), tmp_path)
        assert [f.code for f in findings] == ["FL-642"]
        assert f"127.0.0.1:{port} gave no answer (Connection refused)" in findings[0].what

    @pytest.mark.parametrize(
        "address", ["https://user:geheim@127.0.0.1:1", "socks5://x:1", "http://:geheim@", "http://x:y"]
    )
    def test_whose_address_cannot_be_used_is_not_repeated(self, serve, tmp_path, monkeypatch, address):
        monkeypatch.setenv("HTTPS_PROXY", address)
        link, findings = look_at_connection(serve(), tmp_path)
        assert link.state == "failed"
        assert [f.code for f in findings] == ["FL-642"]
        assert "cannot be tried" in findings[0].what
        assert "geheim" not in findings[0].model_dump_json()

    @pytest.mark.parametrize("spared", ["127.0.0.1", "other.test,127.0.0.1", "127.0.0.1:{}", "*"])
    def test_is_passed_by_where_no_proxy_says_so(self, serve, door, tmp_path, monkeypatch, spared):
        connection, proxy = serve(), door(status=403)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", spared.format(connection.server.split(":")[1]))
        link, findings = look_at_connection(connection, tmp_path)
        assert (link.state, link.proxy, findings, proxy.asked) == ("ok", "", [], [])

    def test_does_not_weaken_the_check_of_the_certificate(self, serve, door, tmp_path, monkeypatch):
        connection, proxy = serve(), door()
        other = Authority().certificate.public_bytes(serialization.Encoding.PEM)
        (tmp_path / "ca.crt").write_bytes(other)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        _, findings = look_at_connection(connection, tmp_path)
        assert [f.code for f in findings] == ["FL-633"]
        assert "opens TLS connections" in findings[0].remedy
        assert f"-proxy 127.0.0.1:{proxy.port} " in findings[0].commands[0]


class TestWithoutAnAddress:
    def test_nothing_is_opened_and_it_is_said(self, tmp_path, monkeypatch):
        monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("a connection was opened"))
        link, findings = look_at_connection(Connection(), tmp_path)
        assert (link.state, findings) == ("not checked: no connection given", [])


class TestAGoodConnection:
    def test_tells_names_days_and_clock(self, serve, tmp_path):
        link, findings = look_at_connection(serve(), tmp_path)
        assert findings == []
        assert link.state == "ok"
        assert link.names == ("127.0.0.1", "coordinator.test")
        assert (link.days_left, link.root_days_left) == (90, 400)
        assert link.clock_s is not None and abs(link.clock_s) < 5

    def test_with_a_certificate_near_its_end_is_a_warning(self, serve, tmp_path):
        _, findings = look_at_connection(serve(days=12), tmp_path)
        assert [(f.code, f.severity) for f in findings] == [("FL-633", "warning")]
        assert "12 days" in findings[0].what


class TestTheClock:
    @pytest.mark.parametrize(("clock_s", "severity"), [(120, "warning"), (-120, "warning"), (900, "fix")])
    def test_that_differs_is_said_with_its_direction(self, serve, tmp_path, clock_s, severity):
        link, findings = look_at_connection(serve(clock_s=clock_s), tmp_path)
        assert link.clock_s == pytest.approx(clock_s, abs=5)
        assert [(f.code, f.severity) for f in findings] == [("FL-634", severity)]
        assert ("ahead of" if clock_s > 0 else "behind") in findings[0].what


class TestWhatIsRefused:
    def test_an_expired_certificate(self, serve, tmp_path):
        link, findings = look_at_connection(serve(days=-3), tmp_path)
        assert link.state == "failed"
        assert [f.code for f in findings] == ["FL-633"]
        assert "expired" in findings[0].what

    def test_a_certificate_of_another_authority(self, serve, tmp_path):
        connection = serve()
        other = Authority().certificate.public_bytes(serialization.Encoding.PEM)
        (tmp_path / "ca.crt").write_bytes(other)
        _, findings = look_at_connection(connection, tmp_path)
        assert [(f.code, f.severity) for f in findings] == [("FL-633", "fix")]

    def test_a_certificate_for_another_name(self, serve, tmp_path):
        _, findings = look_at_connection(serve(address="127.0.0.9"), tmp_path)
        assert [f.code for f in findings] == ["FL-633"]

    def test_a_root_that_is_not_there(self, serve, tmp_path):
        connection = serve().model_copy(update={"root_certificate": Path("absent.crt")})
        _, findings = look_at_connection(connection, tmp_path)
        assert "root certificate cannot be read" in findings[0].what

    def test_an_address_where_nobody_answers(self, tmp_path):
        with socket.socket() as taken:  # bound, not listening
            taken.bind(("127.0.0.1", 0))
            link, findings = look_at_connection(Connection(server=f"127.0.0.1:{taken.getsockname()[1]}"), tmp_path)
        assert link.state == "failed"
        assert [(f.code, f.severity) for f in findings] == [("FL-632", "fix")]
