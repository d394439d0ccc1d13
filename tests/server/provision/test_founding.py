"""A federation is founded once, repeated without harm, and read back strictly."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile

import pytest

from federations import ADDRESS, digests, found, kit_for, small_study, told
from fedloupe.signing import KeyUnusable, SignatureWrong, Signer, check, spoken
from fedloupe_server.provision import load_federation, note_seen, rotate_server
from fedloupe_server.provision.errors import AddressInvalid, FederationUnusable
from fedloupe_server.provision.files import write_whole

SECRETS = ("authority/ca.key", "coordinator.key", "tls/server.key", "tls/executor.secret")


class TestFounding:
    def test_makes_private_files_for_their_owner_alone(self, fed):
        assert fed.stat().st_mode & 0o777 == 0o700
        for name in SECRETS:
            assert (fed / name).stat().st_mode & 0o777 == 0o600, name

    def test_tells_the_coordinators_own_fingerprint(self, tmp_path):
        founded = found(tmp_path / "FED")
        assert founded.spoken == spoken(Signer.load(tmp_path / "FED" / "coordinator.key").public)
        assert founded.new

    def test_signs_the_study_as_it_was_loaded(self, fed):
        study = small_study()
        content = (fed / "study.json").read_bytes()
        assert content == study.canonical.encode() + b"\n"
        signed = json.loads((fed / "study.json.sig").read_text())
        check("study", content, signed["signature"], Signer.load(fed / "coordinator.key").public)
        assert load_federation(fed).study.fingerprint == study.fingerprint

    def test_builds_a_bundle_without_code(self, fed):
        with zipfile.ZipFile(fed / "fedloupe.fab") as bundle:
            assert sorted(bundle.namelist()) == [".info/CONTENT", "LICENSE", "pyproject.toml"]
        digest = hashlib.sha256((fed / "fedloupe.fab").read_bytes()).hexdigest()
        assert load_federation(fed).record.bundle_sha256 == digest

    @pytest.mark.parametrize(
        "address", ["", "host", ":443", "host:", "host:0", "host:70000", "https://h:443", "a b:1", "h:443/x", "h:443\n"]
    )
    def test_an_address_that_is_none_is_refused(self, tmp_path, address):
        with pytest.raises(AddressInvalid, match="FL-751"):
            found(tmp_path / "FED", address=address)
        assert not (tmp_path / "FED").exists()

    def test_a_folder_with_something_else_is_refused(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("mine")
        with pytest.raises(FederationUnusable, match="something else"):
            found(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


class TestRepeating:
    def test_changes_nothing_where_nothing_changed(self, fed):
        before = digests(fed)
        assert not found(fed).new
        assert digests(fed) == before

    def test_takes_another_study_address_and_name_and_keeps_every_key(self, fed):
        before = {name: (fed / name).read_bytes() for name in SECRETS}
        federation = found(fed, study=small_study(seed=9), address="fl.example.org:8443", name="Another").federation
        assert (federation.record.address, federation.record.name) == ("fl.example.org:8443", "Another")
        assert federation.study.seed == 9
        assert {name: (fed / name).read_bytes() for name in SECRETS} == before

    def test_another_host_gets_its_certificate_from_the_same_authority(self, fed):
        before = (fed / "authority" / "ca.crt").read_bytes(), (fed / "tls" / "server.crt").read_bytes()
        found(fed, address="new.example.org:443")
        assert (fed / "authority" / "ca.crt").read_bytes() == before[0]
        assert (fed / "tls" / "server.crt").read_bytes() != before[1]

    def test_a_new_study_makes_kits_stale_and_says_why(self, fed, tmp_path):
        kit_for(fed, tmp_path / "home")
        assert found(fed).federation.stale_kits == {}
        changed = found(fed, study=small_study(seed=9), address="fl.example.org:8443").federation
        assert changed.stale_kits == {"north": ("address", "study")}

    def test_goes_on_wherever_it_was_killed(self, tmp_path):
        """Killed after each of its writes in turn; started again, it completes and keeps the keys it had made."""
        script = (
            "import os, sys\n"
            "import fedloupe_server.provision.files as files\n"
            "from pathlib import Path\n"
            "from federations import found\n"
            "left, real = int(sys.argv[2]), os.replace\n"
            "def replace(a, b):\n"
            "    global left\n"
            "    left -= 1\n"
            "    if left < 0: os._exit(9)\n"
            "    real(a, b)\n"
            "os.replace = replace\n"
            "found(Path(sys.argv[1]))\n"
        )
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        for writes in (0, 1, 3, 6, 9):
            fed = tmp_path / str(writes)
            done = subprocess.run([sys.executable, "-c", script, str(fed), str(writes)], env=env, check=False)
            assert done.returncode == 9, "it was killed"
            made = {name: (fed / name).read_bytes() for name in SECRETS if (fed / name).exists()}
            found(fed)
            assert load_federation(fed).record.address == ADDRESS
            assert {name: (fed / name).read_bytes() for name in made} == made

    def test_a_lost_authority_is_not_replaced_in_silence(self, fed):
        (fed / "authority" / "ca.key").unlink()
        with pytest.raises(FederationUnusable, match="key is gone"):
            found(fed)

    def test_nor_is_a_lost_key_of_the_coordinator(self, fed):
        """Every hospital compared it by telephone."""
        (fed / "coordinator.key").unlink()
        with pytest.raises(FederationUnusable, match="key is gone"):
            found(fed)

    def test_a_key_that_others_may_read_is_not_used(self, fed):
        (fed / "coordinator.key").chmod(0o644)
        with pytest.raises(KeyUnusable, match="FL-131"):
            found(fed)


class TestRotatingTheServer:
    def test_changes_key_and_certificate_and_nothing_else(self, fed, tmp_path):
        kit_for(fed, tmp_path / "home")
        before, key = digests(fed), (fed / "tls" / "server.key").read_bytes()
        federation = rotate_server(fed, days=30)
        after = digests(fed)
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert {name.split("/")[0] for name in changed} == {"tls"}
        assert "tls/ca.crt" not in changed and "tls/executor.secret" not in changed
        assert (fed / "tls" / "server.key").read_bytes() != key
        assert federation.stale_kits == {}, "hospitals need nothing new"
        ends = {one.what: one.ends for one in federation.expiries}
        assert ends["server"] < ends["north"]


class TestReading:
    @pytest.mark.parametrize("name", ["federation.json", "study.json", "study.json.sig", "tls/server.crt"])
    def test_an_absent_or_damaged_file_is_named(self, fed, name):
        (fed / name).write_bytes(b"{}")
        with pytest.raises((FederationUnusable, SignatureWrong)):
            load_federation(fed)
        (fed / name).unlink()
        with pytest.raises(FederationUnusable, match=name.rsplit("/", maxsplit=1)[-1]):
            load_federation(fed)

    def test_a_damaged_note_of_couriers_is_named(self, fed):
        """Without it, keys that were replaced would be registered again."""
        note_seen(fed, {"north": 3})
        (fed / "couriers.json").write_text((fed / "couriers.json").read_text()[:-9])
        with pytest.raises(FederationUnusable, match=r"FL-750.*couriers\.json"):
            load_federation(fed)

    def test_a_study_that_another_key_signed_is_refused(self, fed, tmp_path):
        other, content = Signer.make(tmp_path / "key"), (fed / "study.json").read_bytes()
        signed = {"key": other.public, "signature": other.sign("study", content)}
        (fed / "study.json.sig").write_text(json.dumps(signed))
        with pytest.raises(SignatureWrong):
            load_federation(fed)

    @pytest.mark.parametrize("field", ["site_key", "serial", "site"])
    def test_a_record_that_is_not_its_certificates_is_refused(self, fed, tmp_path, field):
        kit_for(fed, tmp_path / "home")
        path = fed / "sites" / "north.json"
        record = json.loads(path.read_text())
        record[field] = {"site_key": "0" * 64, "serial": "1", "site": "south"}[field]
        write_whole(path, json.dumps(record).encode())
        with pytest.raises(FederationUnusable, match=r"north\.json"):
            load_federation(fed)

    def test_the_fingerprint_is_the_one_on_the_telephone(self, fed):
        assert spoken(load_federation(fed).coordinator_key) == told(fed)
