"""Signatures are their key's, their purpose's and their content's alone; private keys are files for one."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedloupe.signing import KeyUnusable, SignatureWrong, Signer, check, same_spoken, spoken


@pytest.fixture
def key(tmp_path):
    return Signer.make(tmp_path / "a.key")


class TestSpoken:
    def test_spaces_and_capitals_do_not_matter_and_every_digit_does(self, key):
        told = spoken(key.public)
        assert len(told.replace(" ", "")) == 32
        assert same_spoken(f" {told.upper()}\n", key.public) and same_spoken(told.replace(" ", ""), key.public)
        other = "0" if told[-1] != "0" else "1"
        for wrong in (told[:-1], told[:-1] + other, told + "0", "", " "):
            assert not same_spoken(wrong, key.public)


class TestSignatures:
    def test_they_are_ed25519_under_purpose_and_sha_512(self, key):
        """By hand, from RFC 8032 as `cryptography` has it."""
        said = b"fedloupe kit\0" + hashlib.sha512(b"content").digest()
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.public)).verify(
            bytes.fromhex(key.sign("kit", b"content")), said
        )

    def test_what_was_signed_passes(self, key):
        check("request", b"content", key.sign("request", b"content"), key.public)

    @pytest.mark.parametrize("place", [0, 17, 63])
    def test_a_changed_bit_does_not(self, key, place):
        signature = bytearray.fromhex(key.sign("request", b"content"))
        signature[place] ^= 1
        with pytest.raises(SignatureWrong):
            check("request", b"content", signature.hex(), key.public)

    def test_other_content_does_not(self, key):
        with pytest.raises(SignatureWrong):
            check("request", b"contents", key.sign("request", b"content"), key.public)

    def test_another_purpose_does_not(self, key):
        with pytest.raises(SignatureWrong):
            check("request", b"content", key.sign("kit", b"content"), key.public)

    def test_another_key_does_not(self, key, tmp_path):
        with pytest.raises(SignatureWrong):
            check("kit", b"content", key.sign("kit", b"content"), Signer.make(tmp_path / "b.key").public)

    @pytest.mark.parametrize("public", ["", "zz" * 32, "00" * 31, "ab" * 33])
    def test_what_is_no_key_checks_nothing(self, key, public):
        with pytest.raises(SignatureWrong):
            check("kit", b"content", key.sign("kit", b"content"), public)


class TestKeys:
    def test_a_key_comes_back_from_its_file(self, key, tmp_path):
        assert Signer.load(tmp_path / "a.key").public == key.public

    def test_only_its_owner_may_read_it(self, key, tmp_path):
        assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600

    def test_one_that_others_may_read_is_refused(self, key, tmp_path):
        (tmp_path / "a.key").chmod(0o640)
        with pytest.raises(KeyUnusable, match="others may read"):
            Signer.load(tmp_path / "a.key")

    def test_one_is_never_written_over_another(self, key, tmp_path):
        with pytest.raises(KeyUnusable, match="never replaced"):
            Signer.make(tmp_path / "a.key")
        assert Signer.load(tmp_path / "a.key").public == key.public

    @pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\n"])
    def test_what_is_no_key_is_refused(self, tmp_path, content):
        (tmp_path / "b.key").write_bytes(content)
        (tmp_path / "b.key").chmod(0o600)
        with pytest.raises(KeyUnusable):
            Signer.load(tmp_path / "b.key")

    def test_people_compare_the_start_of_its_sha_256(self, key):
        digest = hashlib.sha256(bytes.fromhex(key.public)).hexdigest()
        assert spoken(key.public).replace(" ", "") == digest[:32]
        assert [len(group) for group in spoken(key.public).split(" ")] == [4] * 8
