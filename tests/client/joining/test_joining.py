"""A kit is installed whole, by a person who compared a key, or refused by its code."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import json
import shutil
import zipfile
from datetime import timedelta

import pytest

from federations import digests, found, install, kit_for, resign, small_study, told
from fedloupe.certificates import CertificateExpired, CertificateRevoked, CertificateWrong, utc_now
from fedloupe.enrolment import KitInvalid, read_kit
from fedloupe.signing import KeyUnusable, SignatureWrong, Signer, spoken
from fedloupe_client.gate import Audit, CoordinatorsDamaged, approved, trusted, verify
from fedloupe_client.gate.errors import AuditDamaged
from fedloupe_client.gate.signed import check_signed, sign_head
from fedloupe_client.joining import check_kit, courier_folder, initialise, installed, join
from fedloupe_client.joining.errors import (
    CoordinatorDiffers,
    CoordinatorNotCompared,
    KeysAbsent,
    KitNotInstalled,
    KitNotOurs,
    KitStale,
    SiteNameRefused,
)
from fedloupe_client.joining.installed import Joining, Move, commit
from fedloupe_server.provision import enrol, load_federation, revoke
from fedloupe_server.provision.authority import Authority, site_certificate


@pytest.fixture(autouse=True)
def without_flower(monkeypatch):
    """As on a machine for the site process alone; one test below has it."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "flwr" else real(name, *rest))


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def kit(fed, home):
    return kit_for(fed, home).kit


@pytest.fixture
def refused(fed, home):
    """Check a kit; whatever is raised, nothing may have changed."""

    def check(kit, error, words=None, *, heard="", now=None):
        before = digests(home)
        with pytest.raises(error, match=words):
            check_kit(home, home / "courier", kit, heard=told(fed) if heard == "" else heard, now=now or utc_now())
        assert digests(home) == before

    return check


class TestJoining:
    def test_puts_everything_in_its_place(self, fed, home, kit):
        record = install(fed, home, kit)
        content = read_kit(kit)
        assert (home / "gate" / "certificate.pem").read_text() == content.certificate
        assert (home / "gate" / "authority.pem").read_text() == content.authority
        assert (home / "gate" / "revoked.pem").read_text() == content.revoked
        assert (home / "study.json").read_text() == small_study().canonical + "\n"
        assert (home / "courier" / "ca.crt").read_text() == content.authority
        assert (home / "courier" / "fedloupe.fab").read_bytes() == content.bundle_bytes
        assert installed(home) == record
        assert (record.site, record.number, record.address, record.by) == ("north", 1, content.address, "Dr Ito")
        assert [path.name for path in home.rglob(".*")] == [], "nothing half-done is left"

    def test_trusts_the_coordinator_by_name_and_approves_no_study(self, fed, home, kit):
        install(fed, home, kit)
        (one,) = trusted(home).values()
        assert (one.name, one.key, one.by) == ("Coordinating Hospital", load_federation(fed).coordinator_key, "Dr Ito")
        assert verify(home) == []
        assert approved(home) == {}

    def test_again_with_the_same_kit_repairs(self, fed, home, kit):
        install(fed, home, kit)
        before = digests(home)
        (home / "courier" / "ca.crt").write_text("overwritten by mistake")
        (home / "gate" / "certificate.pem").unlink()
        install(fed, home, kit)
        after = digests(home)
        chain = {"gate/audit.jsonl", "gate/audit.head"}
        assert {name for name in before if before[name] != after[name]} - chain <= {"kit.json"}

    def test_a_renewal_needs_no_second_telephone_call(self, fed, home, kit):
        install(fed, home, kit)
        renewed = kit_for(fed, home, renew=True)
        checked = check_kit(home, home / "courier", renewed.kit, heard=None, now=utc_now())
        assert join(home, home / "courier", checked, by="Dr Roy").number == 2
        assert installed(home).by == "Dr Roy"
        assert [one.by for one in trusted(home).values()] == ["Dr Ito"], "who compared the key vouches for it"

    def test_the_chain_knows_every_kit(self, fed, home, kit):
        install(fed, home, kit)
        renewed = kit_for(fed, home, renew=True).kit
        install(fed, home, renewed)
        lines = [json.loads(line) for line in (home / "gate" / "audit.jsonl").read_text().splitlines()]
        assert [(line["kind"], line["run"]) for line in lines if line["kind"] == "kit"] == [
            ("kit", "north-1"),
            ("kit", "north-2"),
        ]
        assert lines[-1]["sha256"] == hashlib.sha256(read_kit(renewed).said).hexdigest()

    def test_later_commands_find_the_couriers_folder_by_the_kit(self, fed, home, tmp_path):
        elsewhere = tmp_path / "elsewhere"
        kit = enrol(fed, initialise(home, "north", elsewhere)).kit
        assert courier_folder(home, None) == home / "courier"
        join(home, elsewhere, check_kit(home, elsewhere, kit, heard=told(fed), now=utc_now()), by="Dr Ito")
        assert courier_folder(home, None) == elsewhere
        assert courier_folder(home, tmp_path) == tmp_path

    def test_makes_the_couriers_flower_home_where_flower_is(self, fed, home, kit, monkeypatch):
        monkeypatch.undo()
        record = install(fed, home, kit)
        flower = home / "courier" / "flower"
        assert (flower / "approved").read_text().strip() == record.bundle_sha256
        assert (flower / "approved").stat().st_mode & 0o222 == 0
        made = flower.stat().st_ino
        install(fed, home, kit_for(fed, home, renew=True).kit)
        assert flower.stat().st_ino == made, "the same bundle: a running courier is left alone"

    @pytest.mark.parametrize("name", ["argparse", "fedloupe"])
    def test_runs_nothing_that_lies_in_the_current_folder(self, fed, home, kit, tmp_path, monkeypatch, name):
        monkeypatch.undo()
        folder = tmp_path / "downloads"
        folder.mkdir()
        (folder / f"{name}.py").write_text("open('ran', 'w'); raise SystemExit(1)")
        monkeypatch.chdir(folder)
        install(fed, home, kit)
        assert not (folder / "ran").exists() and (home / "courier" / "flower" / "approved").exists()

    def test_a_bundle_that_flower_refuses_leaves_the_old_kit(self, fed, home, kit, monkeypatch):
        install(fed, home, kit)
        before = digests(home)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
        monkeypatch.setattr("fedloupe_client.joining.joining.sys.executable", shutil.which("false"))
        checked = check_kit(home, home / "courier", kit_for(fed, home, renew=True).kit, heard=told(fed), now=utc_now())
        with pytest.raises(KitNotInstalled, match="FL-658"):
            join(home, home / "courier", checked, by="Dr Ito")
        assert digests(home) == before


class TestNewKeys:
    def test_take_the_old_ones_place_with_their_kit_and_not_before(self, fed, home, kit):
        install(fed, home, kit)
        old = Signer.load(home / "gate" / "site.key").public
        renewed = enrol(fed, initialise(home, "north", home / "courier", new_keys=True), renew=True)
        assert Signer.load(home / "gate" / "site.key").public == old
        install(fed, home, renewed.kit)
        assert Signer.load(home / "gate" / "site.key").public == renewed.record.site_key != old
        assert (home / "courier" / "courier.pub").read_text().strip() == renewed.record.courier_key
        assert not [*home.rglob("*.new")]
        for name in ("gate/site.key", "courier/courier.key"):
            assert (home / name).stat().st_mode & 0o777 == 0o600

    def test_what_the_old_ones_signed_still_counts_and_the_change_is_in_the_chain(self, fed, home, kit):
        install(fed, home, kit)
        for _ in range(2):
            old = sign_head(home).public
            renewed = enrol(fed, initialise(home, "north", home / "courier", new_keys=True), renew=True)
            install(fed, home, renewed.kit)
            assert sign_head(home).public == renewed.record.site_key != old
        assert check_signed(home) == []
        assert (home / "gate" / "site.key.2.pub").read_text().strip() == old
        kept = [line for line in Audit(home).sound().lines if line["kind"] == "site-key"]
        assert kept[-1]["sha256"] == hashlib.sha256(renewed.record.site_key.encode()).hexdigest()
        assert [line["run"] for line in kept] == ["north-2", "north-3"]

    @pytest.mark.parametrize("damage", [b"", b"no key"])
    def test_take_the_place_of_a_damaged_one_too_and_what_that_signed_still_counts(self, fed, home, kit, damage):
        install(fed, home, kit)
        sign_head(home)
        renewed = enrol(fed, initialise(home, "north", home / "courier", new_keys=True), renew=True)
        (home / "gate" / "site.key").write_bytes(damage)
        install(fed, home, renewed.kit)
        assert Signer.load(home / "gate" / "site.key").public == renewed.record.site_key
        assert check_signed(home) == []

    def test_take_the_place_of_one_that_was_lost(self, fed, home, kit):
        install(fed, home, kit)
        renewed = enrol(fed, initialise(home, "north", home / "courier", new_keys=True), renew=True)
        (home / "gate" / "site.key").unlink()
        install(fed, home, renewed.kit)
        assert Signer.load(home / "gate" / "site.key").public == renewed.record.site_key

    def test_a_kit_for_the_old_ones_is_then_refused(self, fed, home, kit, tmp_path, refused):
        old = shutil.copyfile(kit, tmp_path / "old.kit")
        install(fed, home, kit)
        install(fed, home, enrol(fed, initialise(home, "north", home / "courier", new_keys=True), renew=True).kit)
        refused(old, KitNotOurs, "FL-649")


class TestWhoseKitItIs:
    def test_without_a_telephone_call_nothing_is_installed(self, kit, refused):
        refused(kit, CoordinatorNotCompared, r"FL-647.*Coordinating Hospital", heard=None)

    def test_another_fingerprint_is_refused(self, fed, kit, tmp_path, refused):
        refused(kit, CoordinatorDiffers, "FL-648", heard=spoken(Signer.make(tmp_path / "x").public))

    @pytest.mark.parametrize("part", [slice(0, 4), slice(0, 38), slice(0, 0)])
    def test_a_part_of_the_fingerprint_is_no_comparison(self, fed, kit, refused, part):
        refused(kit, CoordinatorDiffers, heard=told(fed)[part] or " ")

    def test_a_kit_that_somebody_else_signed_is_refused(self, kit, tmp_path, refused):
        """All of it is right but the key: whoever catches the kit on its way can do this."""
        Signer.make(tmp_path / "theirs")
        refused(resign(kit, tmp_path / "theirs", tmp_path / "forged.kit"), CoordinatorDiffers)

    def test_an_altered_kit_is_refused(self, kit, refused):
        content = json.loads(kit.read_text())
        content["content"]["address"] = "evil.example.org:443"
        kit.write_text(json.dumps(content))
        refused(kit, SignatureWrong, "FL-130")

    def test_another_federation_of_the_same_coordinator_needs_a_call_again(self, fed, home, kit, tmp_path, refused):
        install(fed, home, kit)
        other = shutil.copytree(fed, tmp_path / "other", symlinks=True)
        for name in ("authority", "sites", "kits", "revoked.crl"):
            shutil.rmtree(other / name) if (other / name).is_dir() else (other / name).unlink()
        found(other)
        refused(kit_for(other, home).kit, CoordinatorNotCompared, heard=None)

    def test_damaged_trust_stops_it(self, home, kit, refused):
        (home / "gate" / "coordinators").mkdir()
        (home / "gate" / "coordinators" / "x.json").write_text("{}")
        refused(kit, CoordinatorsDamaged, "FL-540")


class TestWhomItIsFor:
    def test_another_sites_kit_is_refused(self, fed, home, kit, tmp_path, refused):
        refused(kit_for(fed, tmp_path / "south", "south").kit, KitNotOurs, "FL-649")

    def test_a_kit_for_keys_that_were_made_again_is_refused(self, home, kit, tmp_path, refused):
        (home / "courier" / "courier.key").unlink()
        initialise(home, "north", home / "courier")
        refused(kit, KitNotOurs)

    def test_without_keys_it_says_how_to_make_them(self, fed, kit, home, refused):
        (home / "gate" / "site.key").unlink()
        refused(kit, KeysAbsent, r"FL-645.*fedloupe-site init")

    def test_a_key_that_others_may_read_is_not_used(self, home, kit, refused):
        (home / "gate" / "site.key").chmod(0o644)
        refused(kit, KeyUnusable, "FL-131")

    def test_another_name_in_site_yaml_is_refused(self, home, kit, refused):
        (home / "site.yaml").write_text(
            "site: south\nsource: {format: table, root: ., clinical: {file: c.csv}, features: c.csv}\n"
        )
        refused(kit, SiteNameRefused, "FL-659")

    def test_a_study_that_does_not_name_it_is_refused(self, fed, home, kit, tmp_path, refused):
        other = small_study(sites=[{"name": name, "role": "train"} for name in ("south", "west", "east")])
        changed = {"study": other.canonical, "fingerprint": other.fingerprint}
        refused(resign(kit, fed / "coordinator.key", tmp_path / "k", **changed), KitNotOurs, "names no north")


class TestItsCertificate:
    def test_another_authoritys_is_refused(self, fed, kit, tmp_path, refused):
        other = Authority.make(tmp_path / "other", "Coordinating Hospital", days=100)
        refused(resign(kit, fed / "coordinator.key", tmp_path / "k", authority=other.pem), CertificateWrong, "FL-132")

    def test_another_keys_is_refused(self, fed, kit, tmp_path, refused):
        authority, theirs = Authority.load(fed / "authority"), Signer.make(tmp_path / "theirs").public
        pem = site_certificate(authority, "north", theirs, days=365, now=utc_now())
        refused(resign(kit, fed / "coordinator.key", tmp_path / "k", certificate=pem), CertificateWrong, "another key")

    def test_another_sites_is_refused(self, fed, kit, tmp_path, refused):
        pem = site_certificate(
            Authority.load(fed / "authority"), "south", read_kit(kit).site_key, days=9, now=utc_now()
        )
        refused(resign(kit, fed / "coordinator.key", tmp_path / "k", certificate=pem), CertificateWrong, "of south")

    @pytest.mark.parametrize("days", [366, -1])
    def test_out_of_its_time_it_is_refused(self, kit, refused, days):
        refused(kit, CertificateExpired, "FL-133", now=utc_now() + timedelta(days=days))

    def test_a_revoked_one_is_refused(self, fed, kit, tmp_path, refused):
        revoke(fed, "north", "left")
        revoked = (fed / "revoked.crl").read_text()
        refused(resign(kit, fed / "coordinator.key", tmp_path / "k", revoked=revoked), CertificateRevoked, "FL-134")


class TestItsContent:
    def test_an_older_kit_than_the_installed_one_is_refused(self, fed, home, kit, tmp_path, refused):
        old = shutil.copyfile(kit, tmp_path / "old.kit")
        install(fed, home, kit_for(fed, home, renew=True).kit)
        refused(old, KitStale, r"FL-646.*kit 2 .* is installed")
        refused(old, KitStale, now=utc_now() + timedelta(days=400))

    def test_a_bundle_with_code_is_refused(self, fed, kit, tmp_path, refused):
        bundle = io.BytesIO(read_kit(kit).bundle_bytes)
        with zipfile.ZipFile(bundle, "a") as content:
            content.writestr("fedloupe_client/courier/app.py", "print('mine')")
        data = bundle.getvalue()
        changed = {"bundle": base64.b64encode(data).decode(), "bundle_sha256": hashlib.sha256(data).hexdigest()}
        refused(resign(kit, fed / "coordinator.key", tmp_path / "k", **changed), KitInvalid, "holds more than")

    def test_a_study_that_this_version_reads_otherwise_is_refused(self, fed, kit, tmp_path, refused):
        text = small_study().canonical.replace('"seed":', '"seed": ')
        changed = {"study": text, "fingerprint": hashlib.sha256(text.encode()).hexdigest()}
        refused(resign(kit, fed / "coordinator.key", tmp_path / "k", **changed), KitInvalid, "reads another study")

    @pytest.mark.parametrize("text", ["", "{}", '{"content": 1}', "[" * 10_000])
    def test_what_is_no_kit_is_refused(self, kit, refused, text):
        kit.write_text(text)
        refused(kit, KitInvalid, "FL-136")


class TestFailing:
    def test_where_the_chain_takes_no_line_the_old_kit_stays(self, fed, home, kit):
        other = kit_for(fed, home, renew=True).kit
        install(fed, home, other)
        found(fed, name="Renamed")  # trust must be written again
        newer = kit_for(fed, home, renew=True).kit
        audit = home / "gate" / "audit.jsonl"
        audit.write_text(audit.read_text().replace("trust", "trusd"))
        before = digests(home)
        with pytest.raises(AuditDamaged):
            install(fed, home, newer)
        assert digests(home) == before

    @pytest.mark.parametrize("name", ["gate/certificate.pem", "courier/ca.crt", "kit.json"])
    def test_where_a_file_cannot_be_replaced_nothing_is(self, fed, home, kit, name):
        (home / name).mkdir(parents=True)
        before = digests(home)
        with pytest.raises(KitNotInstalled, match="FL-658"):
            install(fed, home, kit)
        assert digests(home) == before and trusted(home) == {}

    def test_where_trust_cannot_be_recorded_nothing_is_decided(self, home):
        initialise(home, "north", home / "courier")
        (home / "gate" / "coordinators").mkdir()
        (home / "gate" / "coordinators" / "x.json").write_text("{}")
        before = digests(home)
        with pytest.raises(CoordinatorsDamaged):
            move = Move(source=str(home / "a"), target=str(home / "b"), sha256=None)
            commit(home, Joining(moves=[move], name="x", key="ab" * 32, by="y"))
        assert digests(home) == before

    def test_a_name_that_is_none_is_refused(self, fed, home, kit):
        checked, before = check_kit(home, home / "courier", kit, heard=told(fed), now=utc_now()), digests(home)
        with pytest.raises(KitNotInstalled):
            join(home, home / "courier", checked, by="x" * 81)
        assert digests(home) == before
