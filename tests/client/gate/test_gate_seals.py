"""What is not a known coordinator's own request, unchanged, for this site, now and once, goes no further."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fedloupe
from fedloupe.messages import HelloReply, HelloRequest, MessageRefused, encode
from fedloupe.sealed import SKEW_S, seal
from fedloupe.signing import Signer
from fedloupe_client.gate import Gate
from fedloupe_client.gate.errors import (
    CoordinatorsDamaged,
    CoordinatorUnknown,
    InboxDamaged,
    NotSigned,
    OutOfTime,
    Replayed,
    RequestAltered,
    WrongSite,
)
from fedloupe_client.gate.seals import LONGEST_S, Seals
from fedloupe_client.gate.trust import distrust, trust, trusted

NOW = 1_800_000_000


@pytest.fixture
def key(home, tmp_path) -> Signer:
    made = Signer.make(tmp_path / "coordinator.key")
    trust(home, "Coordinating Hospital", made.public, by="officer")
    return made


@pytest.fixture
def hello(study) -> bytes:
    request = HelloRequest(version=fedloupe.__version__, fingerprint=study.fingerprint, run="demo", site="north")
    return encode(request)


@pytest.fixture
def sealed(hello, key):
    return seal(hello, key, lifetime_s=60, now=NOW)


@pytest.fixture
def at(home):
    """Open a seal at some second."""

    def open_at(blob, second=NOW):
        seals = Seals(home, "north", lambda: second)
        return seals.open(seals.read(blob))

    return open_at


def lines(home):
    return [json.loads(line) for line in (home / "gate" / "audit.jsonl").read_text().splitlines()]


class TestWhatPasses:
    def test_a_known_coordinators_request_is_what_it_holds(self, at, sealed, hello, key):
        opened = at(encode(sealed))
        assert opened.inner == hello and opened.seal.coordinator == key.public

    @pytest.mark.parametrize("second", [NOW - SKEW_S, NOW + 60 + SKEW_S])
    def test_clocks_may_differ_by_five_minutes(self, at, sealed, hello, second):
        assert at(encode(sealed), second).inner == hello

    def test_the_same_request_under_a_new_seal_is_asked_again(self, at, hello, key):
        for _ in range(3):
            assert at(encode(seal(hello, key, lifetime_s=60, now=NOW))).inner == hello


class TestWhatDoesNot:
    def test_a_request_without_a_seal(self, at, hello):
        with pytest.raises(NotSigned):
            at(hello)

    def test_an_answer_is_no_request(self, at, study):
        header = {"version": "1", "fingerprint": study.fingerprint, "run": "demo", "site": "north"}
        reply = HelloReply(
            **header, train=1, tune=1, test=1, positives=1, excluded={}, features=(), groups=(), data_digest="0"
        )
        with pytest.raises(NotSigned):
            at(encode(reply))

    def test_bytes_that_are_no_message(self, at):
        with pytest.raises(MessageRefused):
            at(b"no message")

    def test_an_unknown_key(self, at, hello, tmp_path):
        with pytest.raises(CoordinatorUnknown):
            at(encode(seal(hello, Signer.make(tmp_path / "other.key"), lifetime_s=60, now=NOW)))

    def test_a_key_that_is_trusted_no_longer(self, at, home, sealed, key):
        distrust(home, key.public, by="officer")
        with pytest.raises(CoordinatorUnknown):
            at(encode(sealed))

    def test_another_sites_request(self, at, key, study):
        other = HelloRequest(version=fedloupe.__version__, fingerprint=study.fingerprint, run="demo", site="south")
        with pytest.raises(WrongSite):
            at(encode(seal(encode(other), key, lifetime_s=60, now=NOW)))

    @pytest.mark.parametrize(
        "change",
        [
            {"run": "other"},
            {"nonce": "00" * 16},
            {"expires": NOW + 6000},
            {"issued": NOW - 1},
            {"fingerprint": "0" * 64},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_a_seal_with_a_changed_word(self, at, sealed, change):
        with pytest.raises(RequestAltered):
            at(encode(sealed.model_copy(update=change)))

    def test_any_changed_byte_of_the_request(self, at, sealed):
        for place in range(0, np.size(sealed.inner), 7):
            inner = np.array(sealed.inner)
            inner[place] ^= 1
            with pytest.raises(RequestAltered):
                at(encode(sealed.model_copy(update={"inner": inner})))

    def test_another_keys_name_over_this_keys_signature(self, at, home, sealed, tmp_path):
        second = Signer.make(tmp_path / "second.key")
        trust(home, "Second", second.public, by="officer")
        with pytest.raises(RequestAltered):
            at(encode(sealed.model_copy(update={"coordinator": second.public})))

    def test_a_seal_for_another_request_than_it_holds(self, at, key, study, hello, monkeypatch):
        """Signed by the coordinator itself, about a run that the request does not name."""
        monkeypatch.setattr("fedloupe.sealed.header_of", lambda blob: {**json_header(study), "run": "other"})
        with pytest.raises(RequestAltered, match="another request"):
            at(encode(seal(hello, key, lifetime_s=60, now=NOW)))

    def test_the_same_seal_twice(self, at, sealed):
        at(encode(sealed))
        with pytest.raises(Replayed):
            at(encode(sealed))

    def test_also_after_a_restart_and_as_long_as_it_is_good(self, home, at, sealed):
        at(encode(sealed))
        with pytest.raises(Replayed):
            at(encode(sealed), NOW + 60 + SKEW_S)

    @pytest.mark.parametrize("second", [NOW - SKEW_S - 1, NOW + 60 + SKEW_S + 1])
    def test_a_seal_out_of_its_time(self, at, sealed, second):
        with pytest.raises(OutOfTime):
            at(encode(sealed), second)

    def test_a_seal_that_is_good_for_ever(self, at, hello, key):
        with pytest.raises(OutOfTime):
            at(encode(seal(hello, key, lifetime_s=LONGEST_S + 1, now=NOW)))


class TestAtTheGate:
    def test_each_refusal_is_a_line_with_its_code(self, home, sealed, hello, key):
        gate = Gate(home, "north")
        before = len(lines(home))
        for blob, code in ((hello, "FL-525"), (encode(sealed), "FL-529"), (b"x", "FL-601")):
            with pytest.raises(fedloupe.errors.FedLoupeError) as refused:
                gate.unseal(blob)
            assert refused.value.code == code
        assert [line["outcome"] for line in lines(home)[before:]] == ["FL-525", "FL-529", "FL-601"]
        assert {line["direction"] for line in lines(home)[before:]} == {"in"}

    def test_what_passed_is_admitted_as_before(self, home, hello, key, study):
        gate = Gate(home, "north")
        opened = gate.unseal(encode(seal(hello, key, lifetime_s=60)))
        request, approved = gate.admit(opened.inner, opened.seal.coordinator)
        assert isinstance(request, HelloRequest) and approved == study


class TestTheRecordOfKeys:
    def test_it_says_who_compared_the_key(self, home, key):
        found = trusted(home)[key.public]
        assert (found.name, found.by) == ("Coordinating Hospital", "officer")

    @pytest.mark.parametrize(
        "damage",
        [
            lambda record: "{",
            lambda record: json.dumps({**record, "key": "00" * 32}),
            lambda record: json.dumps({**record, "more": "1"}),
            lambda record: json.dumps({name: record[name] for name in ("name", "key", "by")}),
            lambda record: "[" * 100_000,
        ],
    )
    def test_a_damaged_one_refuses_everything(self, home, at, sealed, key, damage):
        path = home / "gate" / "coordinators" / f"{key.public}.json"
        path.write_text(damage(json.loads(path.read_text())))
        with pytest.raises(CoordinatorsDamaged):
            at(encode(sealed))

    def test_a_damaged_memory_of_seals_refuses_everything(self, home, at, sealed):
        (home / "gate" / "inbox.sqlite").write_bytes(b"no database" * 100)
        with pytest.raises(InboxDamaged):
            at(encode(sealed))


def json_header(study):
    return {"version": fedloupe.__version__, "fingerprint": study.fingerprint, "run": "demo", "site": "north"}
