"""Certificates that OpenSSL accepts, keys that nobody else reads, processes that end."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedloupe_server.hub.processes import ProcessEnded, Processes, free_ports
from fedloupe_server.hub.provision import make_authority, make_courier_key, make_server_certificate, write_secret_bytes


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority = make_authority(folder, "test", days=2)
    make_server_certificate(folder, authority, hosts=("localhost",), addresses=("127.0.0.1",), days=2)
    return folder


def handshake(tls, authority, name):
    """A TLS handshake over a socket pair with the server certificate; raises what the client would raise."""
    server_side, client_side = socket.socketpair()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(tls / "server.crt", tls / "server.key")

    def serve():
        try:
            server.wrap_socket(server_side, server_side=True).close()
        except OSError:
            server_side.close()

    thread = threading.Thread(target=serve)
    thread.start()
    client = ssl.create_default_context(cafile=authority)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        with client.wrap_socket(client_side, server_hostname=name) as wrapped:
            return wrapped.version()
    finally:
        client_side.close()
        thread.join()


class TestCertificates:
    @pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
    def test_the_server_is_believed_under_its_names(self, tls, name):
        assert handshake(tls, tls / "ca.crt", name) in ("TLSv1.2", "TLSv1.3")

    def test_another_name_is_not_believed(self, tls):
        with pytest.raises(ssl.SSLCertVerificationError, match=r"[Hh]ostname"):
            handshake(tls, tls / "ca.crt", "hospital.example")

    def test_another_authority_is_not_believed(self, tls, tmp_path):
        make_authority(tmp_path, "test", days=2)
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(tls, tmp_path / "ca.crt", "localhost")

    def test_openssl_verifies_the_chain(self, tls):
        done = subprocess.run(
            [
                "openssl",
                "verify",
                "-x509_strict",
                "-purpose",
                "sslserver",
                "-CAfile",
                tls / "ca.crt",
                tls / "server.crt",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


class TestKeys:
    def test_the_public_half_matches_the_private_one_on_a_curve_that_flower_accepts(self, tmp_path):
        public = serialization.load_ssh_public_key(make_courier_key(tmp_path).read_bytes())
        private = serialization.load_ssh_private_key((tmp_path / "courier.key").read_bytes(), password=None)
        assert isinstance(public.curve, ec.SECP384R1)
        assert public.public_numbers() == private.public_key().public_numbers()

    def test_private_keys_and_secrets_have_mode_0600_even_where_a_wider_file_stood(self, tls, tmp_path):
        (tmp_path / "courier.key").write_text("old")
        (tmp_path / "courier.key").chmod(0o644)
        make_courier_key(tmp_path)
        write_secret_bytes(tmp_path / "secret")
        for path in (tls / "server.key", tmp_path / "courier.key", tmp_path / "secret"):
            assert path.stat().st_mode & 0o777 == 0o600
        assert len((tmp_path / "secret").read_bytes()) == 32


class TestProcesses:
    def sleeper(self):
        return [sys.executable, "-c", "import time; time.sleep(60)"]

    def test_leaving_the_block_by_an_error_ends_them(self, tmp_path):
        with pytest.raises(ValueError, match="inside"), Processes(tmp_path, print) as processes:
            processes.start("one", self.sleeper())
            process = processes.running["one"].process
            raise ValueError("inside")
        assert process.poll() == -15

    def test_one_that_ends_early_is_told_with_its_log(self, tmp_path):
        with Processes(tmp_path, print) as processes:
            processes.start("one", [sys.executable, "-c", "print('no database'); raise SystemExit(3)"])
            with pytest.raises(ProcessEnded, match=r"FL-730.*code 3: no database"):
                processes.wait_for_port("one", free_ports(1)[0], 20.0)

    def test_one_that_is_never_ready_is_told(self, tmp_path):
        with Processes(tmp_path, print) as processes:
            processes.start("one", self.sleeper())
            with pytest.raises(ProcessEnded, match="not ready"):
                processes.wait_for("one", lambda: False, 0.2)

    def test_an_executor_that_died_is_started_again(self, tmp_path):
        lines = []
        with Processes(tmp_path, lines.append) as processes:
            processes.pause_s = 0.0
            processes.start("executor", self.sleeper(), keep=True)
            first = processes.running["executor"].process
            first.kill()
            first.wait()
            processes.check()
            assert processes.running["executor"].process.pid != first.pid
            assert processes.running["executor"].process.poll() is None
        assert lines == ["executor ended with code -9; starting it again"]

    def test_one_that_keeps_dying_is_not_started_in_a_tight_loop(self, tmp_path):
        lines = []
        with Processes(tmp_path, lines.append) as processes:
            processes.start("site", [sys.executable, "-c", ""], keep=True)
            processes.running["site"].process.wait()
            processes.check()
        assert lines == []

    def test_a_dead_superlink_is_not_hidden(self, tmp_path):
        with Processes(tmp_path, print) as processes:
            processes.start("superlink", [sys.executable, "-c", ""])
            time.sleep(0.3)
            with pytest.raises(ProcessEnded, match="superlink ended with code 0"):
                processes.check()
