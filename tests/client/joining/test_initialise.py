"""A hospital's keys are made once and stay where they are; the request tells their public halves and nothing else."""

from __future__ import annotations

import json

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from federations import digests
from fedloupe.enrolment import read_request
from fedloupe.signing import KeyUnusable, Signer
from fedloupe_client.joining import initialise
from fedloupe_client.joining.errors import KitNotInstalled, SiteNameRefused


@pytest.fixture
def home(tmp_path):
    initialise(tmp_path / "home", "north", tmp_path / "courier")
    return tmp_path / "home"


class TestKeys:
    def test_are_for_their_owner_alone(self, home):
        for path in (home / "gate" / "site.key", home.parent / "courier" / "courier.key"):
            assert path.stat().st_mode & 0o777 == 0o600
        for folder in (home, home / "gate", home.parent / "courier"):
            assert folder.stat().st_mode & 0o777 == 0o700

    def test_the_couriers_public_half_matches_on_a_curve_that_flower_accepts(self, home):
        folder = home.parent / "courier"
        public = serialization.load_ssh_public_key((folder / "courier.pub").read_bytes())
        private = serialization.load_ssh_private_key((folder / "courier.key").read_bytes(), password=None)
        assert isinstance(public.curve, ec.SECP384R1)
        assert public.public_numbers() == private.public_key().public_numbers()

    def test_repeated_nothing_changes(self, home):
        before = digests(home.parent)
        initialise(home, "north", home.parent / "courier")
        assert digests(home.parent) == before

    def test_new_ones_stand_beside_and_replace_nothing(self, home):
        before = digests(home.parent)
        path = initialise(home, "north", home.parent / "courier", new_keys=True)
        after = digests(home.parent)
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        new = {"home/gate/site.key.new", "courier/courier.key.new", "courier/courier.pub.new"}
        assert changed == {"home/north.request.json", *new}
        assert read_request(path).site_key == Signer.load(home / "gate" / "site.key.new").public
        for name in new - {"courier/courier.pub.new"}:
            assert (home.parent / name).stat().st_mode & 0o777 == 0o600

    def test_repeated_for_new_ones_the_same_are_found(self, home):
        initialise(home, "north", home.parent / "courier", new_keys=True)
        before = digests(home.parent)
        initialise(home, "north", home.parent / "courier", new_keys=True)
        assert digests(home.parent) == before

    def test_a_file_that_a_crash_left_empty_is_no_key(self, home):
        (home.parent / "courier" / "courier.key").write_bytes(b"")
        path = initialise(home, "north", home.parent / "courier")
        assert read_request(path).courier_key == (home.parent / "courier" / "courier.pub").read_text().strip()

    @pytest.mark.parametrize("name", ["home/gate/site.key", "courier/courier.key"])
    def test_one_that_others_may_read_or_that_is_damaged_is_not_used_and_not_replaced(self, home, name):
        path = home.parent / name
        path.chmod(0o640)
        with pytest.raises(KeyUnusable, match=r"FL-131.*others"):
            initialise(home, "north", home.parent / "courier")
        path.chmod(0o600)
        path.write_text("not a key")
        with pytest.raises(KeyUnusable, match="no private key"):
            initialise(home, "north", home.parent / "courier")
        assert path.read_text() == "not a key"


class TestTheRequest:
    def test_holds_public_halves_and_no_path(self, home):
        content = json.loads((home / "north.request.json").read_text())
        assert set(content) == {"content", "signature", "courier_signature"}
        assert set(content["content"]) == {"format", "site", "site_key", "courier_key", "version", "made"}
        assert str(home.parent) not in (home / "north.request.json").read_text()

    def test_a_damaged_one_is_made_anew_from_the_same_keys(self, home):
        key = read_request(home / "north.request.json").site_key
        (home / "north.request.json").write_text("{")
        assert read_request(initialise(home, "north", home.parent / "courier")).site_key == key


class TestNames:
    @pytest.mark.parametrize("name", ["", "North", "../x", "a b", "x" * 41])
    def test_what_is_none_is_refused_before_anything_is_made(self, tmp_path, name):
        with pytest.raises(SiteNameRefused, match="FL-659"):
            initialise(tmp_path / "home", name, tmp_path / "courier")
        assert list(tmp_path.iterdir()) == []

    def test_another_than_site_yamls_is_refused(self, tmp_path):
        source = {"format": "table", "root": ".", "clinical": {"file": "c.csv"}, "features": "c.csv"}
        (tmp_path / "site.yaml").write_text(yaml.safe_dump({"site": "south", "source": source}))
        with pytest.raises(SiteNameRefused, match="of south, not of north"):
            initialise(tmp_path, "north", tmp_path / "courier")

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(KitNotInstalled, match="file"):
            initialise(tmp_path / "file" / "home", "north", tmp_path / "courier")
