"""A seal is under every word of its request: change one, and the signature no longer fits."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.messages import HelloRequest, SealedRequest, decode, encode
from fedloupe.sealed import header_of, seal
from fedloupe.signing import SignatureWrong, Signer, check

HELLO = HelloRequest(version="1", fingerprint="ab" * 32, run="demo", site="north")


@pytest.fixture
def key(tmp_path):
    return Signer.make(tmp_path / "coordinator.key")


@pytest.fixture
def sealed(key):
    return seal(encode(HELLO), key, lifetime_s=60, now=1_000_000)


def test_it_comes_through_the_wire_with_what_it_holds(sealed, key):
    arrived = decode(encode(sealed))
    assert isinstance(arrived, SealedRequest)
    check("request", arrived.said, arrived.signature, key.public)
    assert decode(np.asarray(arrived.inner).tobytes()) == HELLO
    assert (arrived.run, arrived.site, arrived.issued, arrived.expires) == ("demo", "north", 1_000_000, 1_000_060)


def test_each_try_has_a_seal_of_its_own(sealed, key):
    again = seal(encode(HELLO), key, lifetime_s=60, now=1_000_000)
    assert again.nonce != sealed.nonce and again.signature != sealed.signature


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", "2"),
        ("fingerprint", "cd" * 32),
        ("run", "other"),
        ("site", "south"),
        ("coordinator", "00" * 32),
        ("nonce", "11" * 16),
        ("issued", 1_000_001),
        ("expires", 2_000_000),
        ("inner", np.frombuffer(encode(HELLO.model_copy(update={"run": "other"})), np.uint8)),
    ],
)
def test_it_covers_every_field(sealed, key, field, value):
    changed = sealed.model_copy(update={field: value})
    with pytest.raises(SignatureWrong):
        check("request", changed.said, changed.signature, key.public)


def test_the_test_above_names_every_field():
    assert set(SealedRequest.model_fields) - {"kind", "signature"} == {
        *("version", "fingerprint", "run", "site", "coordinator", "nonce", "issued", "expires", "inner")
    }


@pytest.mark.parametrize("blob", [b"", b"\x00" * 9, b"no message at all", encode(HELLO)[:40]])
def test_what_is_no_message_gets_no_seal(key, blob):
    with pytest.raises(ValueError, match="header"):
        seal(blob, key, lifetime_s=60)


def test_a_header_is_read_without_its_arrays():
    assert header_of(encode(HELLO)) == {"version": "1", "fingerprint": "ab" * 32, "run": "demo", "site": "north"}
