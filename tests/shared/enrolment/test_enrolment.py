"""Requests and kits come from outside: size, form, signature and proofs of possession, each refused by its code."""

from __future__ import annotations

import json
import shutil

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384

from federations import found, kit_for
from fedloupe.enrolment import (
    LARGEST_REQUEST,
    KitInvalid,
    RequestInvalid,
    document_bytes,
    make_request,
    openssh,
    openssh_fingerprint,
    read_kit,
    read_request,
)
from fedloupe.signing import SignatureWrong, Signer, under


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return Signer.make(tmp_path_factory.mktemp("keys") / "site.key"), ec.generate_private_key(ec.SECP384R1())


@pytest.fixture
def request_file(keys, tmp_path):
    path = tmp_path / "north.request.json"
    path.write_bytes(document_bytes(make_request("north", *keys)))
    return path


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kits")
    found(folder / "FED")
    return kit_for(folder / "FED", folder / "home").kit


def change(path, where, value):
    content = json.loads(path.read_text())
    part = content
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value(part[where[-1]]) if callable(value) else value
    path.write_text(json.dumps(content))


class TestARequest:
    def test_comes_back_as_it_was_made(self, request_file, keys):
        asked = read_request(request_file)
        assert (asked.site, asked.site_key, asked.courier_key) == (
            "north",
            keys[0].public,
            openssh(keys[1].public_key()),
        )

    def test_with_another_site_key_is_refused(self, request_file, tmp_path):
        change(request_file, ("content", "site_key"), Signer.make(tmp_path / "other").public)
        with pytest.raises(SignatureWrong, match="FL-130"):
            read_request(request_file)

    def test_with_another_site_key_that_signed_it_lacks_the_couriers_proof(self, request_file, keys, tmp_path):
        """Somebody takes a courier's public key for their own: the site's signature is right, the courier's is not."""
        theirs = Signer.make(tmp_path / "theirs")
        mine = json.loads(document_bytes(make_request("north", theirs, ec.generate_private_key(ec.SECP384R1()))))
        mine["content"]["courier_key"] = openssh(keys[1].public_key())
        said = json.dumps(mine["content"], sort_keys=True, separators=(",", ":")).encode()
        mine["signature"] = theirs.sign("enrolment", said)
        request_file.write_text(json.dumps(mine))
        with pytest.raises(SignatureWrong, match="courier's private key"):
            read_request(request_file)

    def test_with_another_site_key_that_did_not_sign_it_is_refused(self, request_file, keys, tmp_path):
        """Somebody takes a site's public key for their own: the courier's signature is right, the site's is not."""
        courier, theirs = ec.generate_private_key(ec.SECP384R1()), Signer.make(tmp_path / "theirs")
        mine = json.loads(document_bytes(make_request("north", theirs, courier)))
        mine["content"]["site_key"] = keys[0].public
        said = json.dumps(mine["content"], sort_keys=True, separators=(",", ":")).encode()
        mine["signature"] = theirs.sign("enrolment", said)
        mine["courier_signature"] = courier.sign(under("enrolment", said), ec.ECDSA(SHA384())).hex()
        request_file.write_text(json.dumps(mine))
        with pytest.raises(SignatureWrong, match="FL-130"):
            read_request(request_file)

    def test_in_which_a_key_stands_twice_is_refused(self, request_file):
        text = request_file.read_text()
        request_file.write_text(text.replace('"site": "north"', '"site": "south",\n"site": "north"'))
        assert request_file.read_text() != text
        with pytest.raises(RequestInvalid, match="not JSON as it should be"):
            read_request(request_file)

    def test_for_another_site_is_refused(self, request_file):
        change(request_file, ("content", "site"), "south")
        with pytest.raises(SignatureWrong):
            read_request(request_file)

    def test_larger_than_any_is_refused_unread(self, request_file):
        request_file.write_bytes(request_file.read_bytes() + b" " * LARGEST_REQUEST)
        with pytest.raises(RequestInvalid, match=r"FL-135.*larger"):
            read_request(request_file)

    @pytest.mark.parametrize(
        "text", ["", "[]", "{", "null", "NaN", '{"content": NaN}', "[" * 8000, '{"a":1,"a":2}', "\ud800x", "9" * 5000]
    )
    def test_what_is_none_is_refused(self, request_file, text):
        request_file.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(RequestInvalid, match="FL-135"):
            read_request(request_file)

    @pytest.mark.parametrize(
        ("where", "value"),
        [
            (("content", "more"), 1),
            (("content", "site"), "../north"),
            (("content", "site"), "no\ud800rth"),
            (("content", "site_key"), "00" * 31),
            (("content", "courier_key"), "ssh-rsa AAAA"),
            (("content", "courier_key"), "ecdsa-sha2-nistp384 " + "A" * 180),
            (("content", "made"), "2026-13-41T00:00:00+00:00"),
            (("content", "format"), "fedloupe-enrolment-2"),
            (("signature",), 5),
        ],
    )
    def test_with_a_wrong_field_is_refused(self, request_file, where, value):
        content = json.loads(request_file.read_text())
        (content if len(where) == 1 else content["content"])[where[-1]] = value
        request_file.write_text(json.dumps(content))
        with pytest.raises((RequestInvalid, SignatureWrong)):
            read_request(request_file)

    def test_an_absent_file_is_named(self, tmp_path):
        with pytest.raises(RequestInvalid, match=r"absent\.json"):
            read_request(tmp_path / "absent.json")


class TestAKit:
    @pytest.fixture
    def copy(self, kit, tmp_path):
        return shutil.copyfile(kit, tmp_path / "north.kit")

    def test_comes_back_as_it_was_made(self, copy):
        assert read_kit(copy).site == "north"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("address", "evil.example.org:443"),
            ("number", 99),
            ("coordinator", "Somebody Else"),
            ("expires", "2099-01-01T00:00:00+00:00"),
            ("authority", lambda text: text.replace("A", "B", 1)),
            ("revoked", ""),
        ],
    )
    def test_with_one_value_changed_is_refused(self, copy, field, value):
        change(copy, ("content", field), value)
        with pytest.raises(SignatureWrong, match="FL-130"):
            read_kit(copy)

    @pytest.mark.parametrize("field", ["bundle", "study"])
    def test_with_other_content_than_its_digest_is_refused(self, copy, field):
        change(copy, ("content", field), lambda text: text[:-8] + "AAAA" + text[-4:])
        with pytest.raises(KitInvalid, match="FL-136"):
            read_kit(copy)

    @pytest.mark.parametrize("number", [True, 1.0, "1", 0, -1, 2**40])
    def test_a_number_is_a_number(self, copy, number):
        change(copy, ("content", "number"), number)
        with pytest.raises(KitInvalid):
            read_kit(copy)

    @pytest.mark.parametrize("name", ["two\nlines", "\u202edlohtrebmeh", "", " ", "x" * 81, "bell\a"])
    def test_a_name_that_cannot_be_shown_is_refused(self, copy, name):
        change(copy, ("content", "coordinator"), name)
        with pytest.raises(KitInvalid):
            read_kit(copy)

    def test_larger_than_any_is_refused_unread(self, copy, monkeypatch):
        monkeypatch.setattr("fedloupe.enrolment.LARGEST_KIT", 1000)
        with pytest.raises(KitInvalid, match="larger than 1000"):
            read_kit(copy)


class TestFingerprints:
    def test_the_couriers_is_the_one_that_ssh_keygen_prints(self):
        """From `ssh-keygen -l` for this key."""
        line = (
            "ecdsa-sha2-nistp384 "
            "AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBB4Gpdbrg9mbzpZoEx07r579xu5eoUCtAr50Hg/56J1Ou5jX"
            "DDR7sO0gA8LqhuvFsSwnKOlJ7Hfr1rFUDYsIZGEvtPkgyAtFZyKi1asefZ1EKcUn7x6gwrBj1RKgErpthQ=="
        )
        assert openssh_fingerprint(line) == "SHA256:xwpOjaxA/SWtGmYDIMzfwR1BEb4iTfCaPlxBf29/n0Y"
