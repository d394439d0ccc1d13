"""Certificates: this authority's, in their time, for a site, not taken back; anything else is refused by its code."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedloupe.certificates import (
    CertificateExpired,
    CertificateRevoked,
    CertificateWrong,
    check_certificate,
    read_authority,
    read_certificate,
    read_revocations,
    utc_now,
)
from fedloupe_server.provision.authority import Authority, revocation_list, site_certificate, write_server_certificate

KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32).public_key().public_bytes_raw().hex()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.make(tmp_path_factory.mktemp("authority"), "test", days=100)


@pytest.fixture(scope="module")
def certificate(authority):
    return site_certificate(authority, "north", KEY, days=10, now=utc_now())


def check(pem, authority, days=0.0, revoked=None):
    return check_certificate(pem, authority.certificate, utc_now() + timedelta(days=days), revoked)


class TestASitesCertificate:
    def test_says_whose_it_is(self, certificate, authority):
        identity = check(certificate, authority)
        assert (identity.name, identity.key) == ("north", KEY)
        assert abs((identity.ends - utc_now()) - timedelta(days=10)) < timedelta(minutes=1)

    def test_another_authority_of_the_same_name_does_not_stand_behind_it(self, certificate, tmp_path):
        with pytest.raises(CertificateWrong, match="FL-132"):
            check(certificate, Authority.make(tmp_path, "test", days=100))

    @pytest.mark.parametrize(("days", "words"), [(10.1, "ended on"), (-1.0, "begins on")])
    def test_it_is_refused_out_of_its_time(self, certificate, authority, days, words):
        with pytest.raises(CertificateExpired, match=f"FL-133.*{words}"):
            check(certificate, authority, days)

    def test_it_never_outlives_its_authority(self, authority):
        long = site_certificate(authority, "north", KEY, days=3650, now=utc_now())
        assert check(long, authority).ends == authority.certificate.not_valid_after_utc

    def test_a_servers_certificate_is_no_sites(self, authority, tmp_path):
        write_server_certificate(tmp_path, authority, "north", days=10)
        with pytest.raises(CertificateWrong, match="no certificate of a site"):
            check((tmp_path / "server.crt").read_text(), authority)

    def test_a_certificate_for_another_use_is_no_sites(self, authority):
        """A site's in everything, but made to serve."""
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(KEY))
        now = utc_now()
        pem = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "north")]))
            .issuer_name(authority.certificate.subject)
            .public_key(public)
            .serial_number(7)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(authority.key, SHA384())
            .public_bytes(Encoding.PEM)
        )
        with pytest.raises(CertificateWrong, match="no certificate of a site"):
            check(pem.decode(), authority)

    def test_a_site_is_no_authority(self, certificate):
        with pytest.raises(CertificateWrong):
            read_authority(certificate, utc_now())

    def test_one_that_was_taken_back_is_refused_and_others_are_not(self, certificate, authority):
        other = site_certificate(authority, "south", KEY, days=10, now=utc_now())
        listed = revocation_list(authority, [(read_certificate(certificate).serial_number, utc_now())], utc_now())
        revoked = read_revocations(listed, authority.certificate)
        assert check(other, authority, revoked=revoked).name == "south"
        with pytest.raises(CertificateRevoked, match="FL-134"):
            check(certificate, authority, revoked=revoked)

    def test_another_authoritys_list_is_refused(self, authority, tmp_path):
        other = Authority.make(tmp_path, "test", days=100)
        with pytest.raises(CertificateWrong, match="another authority's"):
            read_revocations(revocation_list(other, [], utc_now()), authority.certificate)

    @pytest.mark.parametrize(
        "text", ["", "x" * 20_000, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "é"]
    )
    def test_what_is_none_is_refused(self, text, authority):
        with pytest.raises(CertificateWrong):
            check(text, authority)

    def test_two_in_one_file_are_refused(self, certificate, authority):
        with pytest.raises(CertificateWrong):
            check(certificate + certificate, authority)


class TestTheAuthority:
    def test_is_refused_after_its_time(self, authority):
        with pytest.raises(CertificateExpired):
            read_authority(authority.pem, utc_now() + timedelta(days=101))
