"""Certificates that OpenSSL accepts, keys that nobody else reads, and both of a pair changed at once."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedloupe.certificates import read_certificate, utc_now
from fedloupe_server.provision.authority import (
    Authority,
    revocation_list,
    serves,
    site_certificate,
    write_server_certificate,
)
from fedloupe_server.provision.errors import FederationUnusable

KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32).public_key().public_bytes_raw().hex()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    authority = Authority.make(folder, "test", days=100)
    write_server_certificate(folder / "tls", authority, "fl.example.org", days=50)
    return folder, authority


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


class TestTheServer:
    @pytest.mark.parametrize("name", ["fl.example.org", "localhost", "127.0.0.1"])
    def test_is_believed_under_its_names(self, made, name):
        assert handshake(made[0] / "tls", made[0] / "ca.crt", name) in ("TLSv1.2", "TLSv1.3")

    def test_is_not_believed_under_another(self, made):
        with pytest.raises(ssl.SSLCertVerificationError, match=r"[Hh]ostname"):
            handshake(made[0] / "tls", made[0] / "ca.crt", "hospital.example")

    def test_is_not_believed_by_who_trusts_another_authority(self, made, tmp_path):
        Authority.make(tmp_path, "test", days=2)
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(made[0] / "tls", tmp_path / "ca.crt", "localhost")

    def test_has_an_address_for_a_name_where_it_is_one(self, made, tmp_path):
        write_server_certificate(tmp_path, made[1], "192.0.2.7", days=5)
        assert handshake(tmp_path, made[0] / "ca.crt", "192.0.2.7")

    def test_serves_only_the_hosts_that_it_names_and_only_in_its_time(self, made, tmp_path):
        text = (made[0] / "tls" / "server.crt").read_text()
        assert serves(text, made[1], "fl.example.org")
        assert not serves(text, made[1], "other.example.org")
        assert not serves(text, Authority.make(tmp_path, "test", days=2), "fl.example.org")
        assert not serves("", made[1], "fl.example.org")
        write_server_certificate(tmp_path / "over", made[1], "fl.example.org", days=0)
        assert not serves((tmp_path / "over" / "server.crt").read_text(), made[1], "fl.example.org")

    def test_key_and_certificate_change_by_one_rename(self, made, tmp_path, monkeypatch):
        """Whatever a server reads between any two steps fits together: a killed rotation leaves the pair before."""
        write_server_certificate(tmp_path, made[1], "fl.example.org", days=5)
        before = (tmp_path / "server.key").read_bytes()

        def fits():
            key = load_pem_private_key((tmp_path / "server.key").read_bytes(), None)
            return key.public_key() == read_certificate((tmp_path / "server.crt").read_text()).public_key()

        real, steps = os.replace, []

        def replace(source, target):
            assert fits()
            real(source, target)
            steps.append(Path(target).name)
            assert fits()

        monkeypatch.setattr(os, "replace", replace)
        write_server_certificate(tmp_path, made[1], "fl.example.org", days=5)
        assert steps == ["server.key", "server.crt", "current"]
        assert (tmp_path / "server.key").read_bytes() != before
        assert [path.name for path in tmp_path.glob("[0-9]*")] == ["2"], "the old key is gone"


class TestOpenssl:
    @staticmethod
    def verify(folder, *options):
        return subprocess.run(
            ["openssl", "verify", "-x509_strict", "-CAfile", folder / "ca.crt", *options],
            capture_output=True,
            text=True,
            check=False,
        )

    def test_verifies_server_and_site(self, made, tmp_path):
        folder, authority = made
        (tmp_path / "north.pem").write_text(site_certificate(authority, "north", KEY, days=5, now=utc_now()))
        for purpose, file in (("sslserver", folder / "tls" / "server.crt"), ("sslclient", tmp_path / "north.pem")):
            done = self.verify(folder, "-purpose", purpose, file)
            assert done.returncode == 0, done.stderr

    def test_sees_a_revoked_site_in_the_list(self, made, tmp_path):
        folder, authority = made
        names = ("north", "south")
        for name in names:
            pem = site_certificate(authority, name, KEY, days=5, now=utc_now() - timedelta(hours=1))
            (tmp_path / name).write_text(pem)
        north = read_certificate((tmp_path / "north").read_text()).serial_number
        (tmp_path / "crl").write_text(revocation_list(authority, [(north, utc_now())], utc_now()))
        north, south = (
            self.verify(folder, "-crl_check", "-CRLfile", tmp_path / "crl", tmp_path / name) for name in names
        )
        assert south.returncode == 0, south.stderr
        assert north.returncode != 0 and "revoked" in north.stderr + north.stdout


class TestKeys:
    def test_are_for_their_owner_alone(self, made):
        folder = made[0]
        for path in (folder / "ca.key", folder / "tls" / "server.key"):
            assert path.stat().st_mode & 0o777 == 0o600

    def test_that_others_may_read_are_not_used(self, tmp_path):
        Authority.make(tmp_path, "test", days=2)
        (tmp_path / "ca.key").chmod(0o640)
        with pytest.raises(FederationUnusable, match=r"FL-750.*others"):
            Authority.load(tmp_path)

    def test_of_another_authority_are_not_used(self, tmp_path):
        Authority.make(tmp_path / "a", "test", days=2)
        Authority.make(tmp_path / "b", "test", days=2)
        os.replace(tmp_path / "b" / "ca.key", tmp_path / "a" / "ca.key")
        with pytest.raises(FederationUnusable, match="do not belong together"):
            Authority.load(tmp_path / "a")
