"""Keys of a secure sum are the hospital's whose name they carry, or nothing is shared with them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from certified import Registrar
from fedloupe.masked import SESSIONS
from fedloupe.masking import Secrets
from fedloupe.messages import KeysRequest, SharesRequest
from fedloupe.signing import Signer, spoken
from fedloupe_client.cli import app
from fedloupe_client.gate.errors import NotEnrolled, NothingOfThatName, PeerChanged, PeerUnproven
from fedloupe_client.gate.peers import Peers

NAMES, SETUP = ("east", "north", "south"), "ab" * 16
HEADER: dict[str, Any] = {"version": "0.1.0", "fingerprint": "0" * 64, "run": "trial", "site": "north"}


@pytest.fixture
def registrar(tmp_path):
    return Registrar(tmp_path / "registrar")


@pytest.fixture
def home(tmp_path, registrar):
    folder = registrar.home(tmp_path / "north", "north")
    source = "source: {format: table, root: ., clinical: {file: a.csv}, features: a.csv}\n"
    (folder / "site.yaml").write_text("site: north\n" + source)
    return folder


@pytest.fixture
def peers(home):
    return Peers(home, "north")


@pytest.fixture
def shares(peers, registrar):
    """The members' keys as a coordinator would send them; `fake` signs in the place of a member."""

    def make(fake: dict[str, Registrar] | None = None, setup: str = SETUP, **changes: Any) -> SharesRequest:
        about = KeysRequest(**HEADER, setup=setup)
        secrets = {name: Secrets(name.encode().ljust(32, b"."), setup, name) for name in NAMES}
        proofs = []
        for name in NAMES:
            keys = secrets[name].channel, secrets[name].masks(SESSIONS)
            own = name == "north"
            proofs.append(
                peers.prove(about, *keys) if own else (fake or {}).get(name, registrar).proof(name, about, *keys)
            )
        certificates, signatures = zip(*proofs, strict=True)
        fields: dict[str, Any] = {
            "members": NAMES,
            "channels": np.stack([secrets[name].channel for name in NAMES]),
            "masks": np.stack([secrets[name].masks(SESSIONS) for name in NAMES]),
            "certificates": certificates,
            "signatures": signatures,
        }
        return SharesRequest(**HEADER, setup=setup, **fields | changes)

    return make


class TestWhoIsWho:
    def test_keys_that_their_hospitals_signed_pass_and_are_remembered(self, peers, shares, registrar):
        peers.check(shares())
        assert {peer.site: peer.key for peer in peers.known()} == {
            name: registrar.keys[name].public for name in ("east", "south")
        }
        peers.check(shares(setup="cd" * 16))

    def test_a_key_that_the_coordinator_put_in_their_place_does_not(self, peers, shares):
        """What a lying coordinator would do to read everybody's terms."""
        channels = shares().channels.copy()
        channels[0] = Secrets(b"x" * 32, SETUP, "coordinator").channel
        with pytest.raises(PeerUnproven, match="east"):
            peers.check(shares(channels=channels))

    def test_nor_does_one_mask_key(self, peers, shares):
        masks = shares().masks.copy()
        masks[2, 63] = masks[0, 0]
        with pytest.raises(PeerUnproven, match="south"):
            peers.check(shares(masks=masks))

    def test_keys_of_another_set_up_do_not(self, peers, shares):
        other = shares(setup="cd" * 16)
        with pytest.raises(PeerUnproven):
            peers.check(shares(signatures=other.signatures))

    def test_another_hospitals_certificate_does_not(self, peers, shares):
        request = shares()
        certificates, signatures = list(request.certificates), list(request.signatures)
        certificates[0], signatures[0] = certificates[2], signatures[2]
        with pytest.raises(PeerUnproven):
            peers.check(shares(certificates=tuple(certificates), signatures=tuple(signatures)))

    def test_a_certificate_of_another_authority_does_not(self, peers, shares, tmp_path):
        with pytest.raises(PeerUnproven, match="authority"):
            peers.check(shares(fake={"east": Registrar(tmp_path / "other")}))

    @pytest.mark.parametrize("count", [0, 2])
    def test_members_without_certificates_do_not(self, peers, shares, count):
        request = shares()
        with pytest.raises(PeerUnproven, match="without certificates"):
            peers.check(shares(certificates=request.certificates[:count]))

    def test_nothing_is_remembered_of_a_refused_member(self, peers, shares, tmp_path):
        with pytest.raises(PeerUnproven):
            peers.check(shares(fake={"east": Registrar(tmp_path / "other")}))
        assert peers.known() == []


class TestNewKeys:
    @pytest.fixture
    def changed(self, peers, shares, registrar, tmp_path):
        """East was met, and comes with another key under the same authority."""
        peers.check(shares())
        registrar.keys["east"] = Signer.make(tmp_path / "another.key")
        return registrar.keys["east"].public

    def test_are_refused(self, peers, shares, changed):
        with pytest.raises(PeerChanged, match="east"):
            peers.check(shares())

    def test_until_a_person_heard_them_from_the_hospital(self, peers, shares, changed):
        with pytest.raises(PeerChanged):
            peers.check(shares())
        with pytest.raises(NothingOfThatName):
            peers.accept("east", "0000 1111 2222 3333 4444 5555 6666 7777", by="Dr Ito")
        assert peers.accept("east", spoken(changed), by="Dr Ito").by == "Dr Ito"
        peers.check(shares())

    def test_cannot_be_accepted_before_they_came(self, peers, shares, changed):
        with pytest.raises(NothingOfThatName, match="no other key"):
            peers.accept("east", spoken(changed), by="Dr Ito")

    def test_by_command(self, home, peers, shares, changed):
        with pytest.raises(PeerChanged):
            peers.check(shares())
        run = CliRunner().invoke
        words = ["peers", str(home), "--accept", "east"]
        assert run(app, words).exit_code == 2
        assert run(app, [*words, "--heard", spoken(changed), "--by", "Dr Ito", "--json"]).exit_code == 0
        assert spoken(changed) in run(app, ["peers", str(home)], env={"COLUMNS": "200"}).output

    def test_a_damaged_record_refuses(self, home, peers, shares):
        peers.check(shares())
        (home / "gate" / "peers.json").write_text('{"east": {}}')
        with pytest.raises(PeerChanged, match="not a record"):
            peers.check(shares())

    def test_a_first_meeting_is_a_line_of_the_chain_and_a_second_one_is_none(self, home, peers, shares):
        for setup in (SETUP, "cd" * 16):
            peers.check(shares(setup=setup))
        lines = [json.loads(line) for line in (home / "gate" / "audit.jsonl").read_text().splitlines()]
        assert [line["kind"] for line in lines] == ["meet-peer"]

    def test_a_hospital_that_comes_back_with_the_key_that_was_known_is_let_in(self, peers, shares, registrar, tmp_path):
        peers.check(shares())
        known = registrar.keys["east"]
        registrar.keys["east"] = Signer.make(tmp_path / "another.key")
        with pytest.raises(PeerChanged):
            peers.check(shares())
        registrar.keys["east"] = known
        peers.check(shares())


def test_a_site_without_a_kit_takes_part_in_no_secure_sum(tmp_path):
    with pytest.raises(NotEnrolled):
        Peers(tmp_path, "north").prove(KeysRequest(**HEADER, setup=SETUP), np.zeros(32), np.zeros((4, 32)))
