"""The connection against a real TLS server on loopback: trusted, expired, strange, silent, and with a wrong clock."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
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
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


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
