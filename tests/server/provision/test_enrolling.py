"""Hospitals come, come again and go: whose request is refused, what a kit says, and that no other site changes."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta

import pytest
from cryptography import x509

from federations import digests, found, kit_for, renewed, small_study
from fedloupe.certificates import utc_now
from fedloupe.enrolment import read_kit, read_request
from fedloupe.signing import SignatureWrong, Signer, spoken
from fedloupe_client.joining import initialise
from fedloupe_server.provision import enrol, load_federation, note_seen, revoke, site_rows
from fedloupe_server.provision.errors import (
    KeyRevoked,
    KeySpent,
    NotEnrolled,
    NotInStudy,
    OtherKeyEnrolled,
    RequestNotTheirs,
)


class TestEnrolling:
    def test_a_kit_says_what_the_federation_is(self, fed, tmp_path):
        enrolled = kit_for(fed, tmp_path / "home")
        kit, federation = read_kit(enrolled.kit), load_federation(fed)
        asked = read_request(tmp_path / "home" / "north.request.json")
        assert (kit.number, kit.site, kit.site_key, kit.courier_key) == (1, "north", asked.site_key, asked.courier_key)
        assert kit.address == federation.record.address and kit.coordinator == "Coordinating Hospital"
        assert kit.coordinator_key == federation.coordinator_key
        assert kit.fingerprint == federation.study.fingerprint
        assert kit.bundle_bytes == (fed / "fedloupe.fab").read_bytes()
        assert federation.sites["north"].kit == 1

    def test_nothing_secret_is_in_request_or_kit(self, fed, tmp_path):
        home = tmp_path / "home"
        enrolled = kit_for(fed, home)
        private = [
            *(home.rglob("*.key")),
            *(path for path in fed.rglob("*") if path.suffix in (".key", ".secret") and path.is_file()),
        ]
        assert len(private) == 7, "site, courier, authority, coordinator, server and the link to it, executor"
        for sent in (home / "north.request.json", enrolled.kit):
            content = sent.read_bytes()
            assert b"PRIVATE" not in content and str(tmp_path).encode() not in content
            for path in private:
                for line in [path.read_bytes(), *path.read_bytes().splitlines()]:
                    if len(line) > 16 and not line.startswith(b"-----"):
                        assert line not in content, path.name
        raw = Signer.load(home / "gate" / "site.key").private.private_bytes_raw()
        assert raw.hex().encode() not in (home / "north.request.json").read_bytes()

    def test_the_same_request_again_gives_the_same_kit(self, fed, tmp_path):
        first, before = kit_for(fed, tmp_path / "home"), digests(fed)
        again = kit_for(fed, tmp_path / "home")
        assert first.fresh and not again.fresh
        assert digests(fed) == before

    def test_a_stale_kit_is_made_anew_with_the_same_certificate(self, fed, tmp_path):
        first = kit_for(fed, tmp_path / "home")
        found(fed, study=small_study(seed=9))
        again = kit_for(fed, tmp_path / "home")
        assert again.fresh and again.record.kit == 2
        assert again.record.certificate == first.record.certificate
        assert read_kit(again.kit).fingerprint == small_study(seed=9).fingerprint
        assert load_federation(fed).stale_kits == {}

    def test_a_kit_lost_in_a_crash_is_made_anew(self, fed, tmp_path):
        first = kit_for(fed, tmp_path / "home")
        first.kit.unlink()
        assert kit_for(fed, tmp_path / "home").record.kit == 2, "a number is never used twice"

    def test_a_changed_request_is_refused_and_nothing_is_written(self, fed, tmp_path):
        path = initialise(tmp_path / "home", "north", tmp_path / "courier")
        content, before = json.loads(path.read_text()), digests(fed)
        content["content"]["site_key"] = Signer.make(tmp_path / "theirs").public
        path.write_text(json.dumps(content))
        with pytest.raises(SignatureWrong, match="FL-130"):
            enrol(fed, path)
        assert digests(fed) == before

    def test_a_site_that_the_study_does_not_name_is_refused(self, fed, tmp_path):
        with pytest.raises(NotInStudy, match=r"FL-752.*east"):
            kit_for(fed, tmp_path / "home", "east")

    def test_a_request_under_another_name_than_meant_is_refused(self, fed, tmp_path):
        with pytest.raises(NotInStudy, match="not of south"):
            enrol(fed, initialise(tmp_path / "home", "north", tmp_path / "home" / "courier"), site="south")

    def test_a_key_that_was_not_told_on_the_telephone_is_refused(self, fed, tmp_path):
        heard = spoken(read_request(initialise(tmp_path / "true", "north", tmp_path / "true" / "courier")).site_key)
        with pytest.raises(RequestNotTheirs, match="FL-756"):
            kit_for(fed, tmp_path / "false", heard=heard)
        with pytest.raises(RequestNotTheirs):
            kit_for(fed, tmp_path / "true", heard=heard[:-5])
        assert kit_for(fed, tmp_path / "true", heard=f"  {heard.upper()} ").fresh

    def test_other_keys_for_an_enrolled_site_are_refused_without_renewing(self, fed, tmp_path):
        kit_for(fed, tmp_path / "true")
        before = digests(fed)
        with pytest.raises(OtherKeyEnrolled, match="FL-753"):
            kit_for(fed, tmp_path / "false")
        assert digests(fed) == before

    def test_one_hospitals_keys_are_not_anothers(self, fed, tmp_path):
        kit_for(fed, tmp_path / "home")
        shutil.copytree(tmp_path / "home", tmp_path / "copy")
        with pytest.raises(KeyRevoked, match="north's"):
            kit_for(fed, tmp_path / "copy", "south")

    def test_numbers_grow_over_all_sites(self, fed, tmp_path):
        assert [kit_for(fed, tmp_path / site, site).record.kit for site in ("north", "south", "west")] == [1, 2, 3]
        assert kit_for(fed, tmp_path / "north", renew=True).record.kit == 4


class TestRenewing:
    def test_changes_no_byte_of_other_sites_and_keeps_the_old_record(self, fed, tmp_path):
        for site in ("north", "south"):
            kit_for(fed, tmp_path / site, site)
        before, old = digests(fed), (fed / "sites" / "north.json").read_bytes()
        enrolled = renewed(fed, tmp_path / "north")
        after = digests(fed)
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert changed == {"sites/north.json", "kits/north.kit", "sites/history/north-1.json", "revoked.crl"}
        assert (fed / "sites" / "history" / "north-1.json").read_bytes() == old
        assert enrolled.record.kit == 3

    def test_both_courier_keys_serve_until_the_old_certificate_ends(self, fed, tmp_path):
        old = kit_for(fed, tmp_path / "home").record
        new = renewed(fed, tmp_path / "home").record
        couriers = {one.public_key: one.superseded for one in load_federation(fed).couriers}
        assert couriers == {old.courier_key: True, new.courier_key: False}

    def test_an_old_couriers_key_is_over_once_a_later_kits_was_seen(self, fed, tmp_path):
        kit_for(fed, tmp_path / "home")
        south = kit_for(fed, tmp_path / "south", "south").record
        new = renewed(fed, tmp_path / "home").record
        note_seen(fed, {"north": new.kit})
        note_seen(fed, {"north": 1, "south": south.kit})
        assert load_federation(fed).seen == {"north": new.kit, "south": south.kit}
        assert {one.public_key for one in load_federation(fed).couriers} == {new.courier_key, south.courier_key}
        found(fed, study=small_study(seed=9))
        kit_for(fed, tmp_path / "south", "south")
        assert len(load_federation(fed).couriers) == 2, "another kit with the same keys changes nothing"

    def test_a_courier_is_over_with_its_latest_certificate(self, fed, tmp_path):
        kit_for(fed, tmp_path / "home")
        kit_for(fed, tmp_path / "home", renew=True, days=0)
        south = kit_for(fed, tmp_path / "south", "south").record
        assert [one.public_key for one in load_federation(fed).couriers] == [south.courier_key]

    def test_the_same_keys_may_be_certified_again(self, fed, tmp_path):
        first = kit_for(fed, tmp_path / "home").record
        second = kit_for(fed, tmp_path / "home", renew=True).record
        assert second.serial != first.serial
        assert [one.superseded for one in load_federation(fed).couriers] == [False]

    @pytest.mark.parametrize("renew", [False, True])
    def test_an_expired_certificate_needs_new_keys(self, fed, tmp_path, renew):
        """Its courier was taken out of the SuperLink, which registers no key a second time."""
        kit_for(fed, tmp_path / "home", days=0)
        with pytest.raises(KeySpent, match=r"FL-758.*ended.*--new-keys"):
            kit_for(fed, tmp_path / "home", renew=renew)
        assert renewed(fed, tmp_path / "home").record.kit == 2

    @pytest.mark.parametrize("renew", [False, True])
    def test_an_earlier_request_is_refused_once_newer_keys_are_enrolled(self, fed, tmp_path, renew):
        kit_for(fed, tmp_path / "home")
        earlier = shutil.copyfile(tmp_path / "home" / "north.request.json", tmp_path / "earlier.json")
        renewed(fed, tmp_path / "home")
        before = digests(fed)
        with pytest.raises(KeySpent, match=r"FL-758.*newer keys"):
            enrol(fed, earlier, renew=renew)
        assert digests(fed) == before

    def test_half_an_earlier_request_is_refused_too(self, fed, tmp_path):
        """The courier's folder was lost and made anew; then somebody comes with the lost one's key."""
        home = tmp_path / "home"
        kit_for(fed, home)
        shutil.copytree(home / "courier", tmp_path / "lost")
        for name in ("courier.key", "courier.pub"):
            (home / "courier" / name).unlink()
        second = kit_for(fed, home, renew=True).record
        with pytest.raises(KeySpent, match="FL-758"):
            enrol(fed, initialise(home, "north", tmp_path / "lost"), renew=True)
        assert load_federation(fed).sites["north"] == second

    def test_a_site_that_never_came_can_not_come_again(self, fed, tmp_path):
        with pytest.raises(NotEnrolled, match="FL-755"):
            kit_for(fed, tmp_path / "home", renew=True)


class TestRevoking:
    def test_changes_no_byte_of_other_sites(self, fed, tmp_path):
        for site in ("north", "south"):
            kit_for(fed, tmp_path / site, site)
        before = digests(fed)
        revoke(fed, "north", "left the study")
        after = digests(fed)
        assert {n for n in before if before[n] != after.get(n)} == {"sites/north.json", "revoked.crl"}

    def test_names_all_certificates_of_the_site_in_the_signed_list(self, fed, tmp_path):
        first = kit_for(fed, tmp_path / "home").record
        second = renewed(fed, tmp_path / "home").record
        other = kit_for(fed, tmp_path / "south", "south").record
        revoke(fed, "north", "a stolen laptop")
        listed = x509.load_pem_x509_crl((fed / "revoked.crl").read_bytes())
        assert {f"{one.serial_number:x}" for one in listed} == {first.serial, second.serial}
        authority = x509.load_pem_x509_certificate((fed / "authority" / "ca.crt").read_bytes())
        assert listed.is_signature_valid(authority.public_key())
        assert [one.site for one in load_federation(fed).couriers] == ["south"]
        assert load_federation(fed).sites["south"] == other

    def test_the_next_kit_of_another_site_brings_the_list(self, fed, tmp_path):
        record = kit_for(fed, tmp_path / "north").record
        revoke(fed, "north", "left")
        kit = read_kit(kit_for(fed, tmp_path / "south", "south").kit)
        listed = x509.load_pem_x509_crl(kit.revoked.encode())
        assert [f"{one.serial_number:x}" for one in listed] == [record.serial]

    @pytest.mark.parametrize("renewing", [False, True])
    def test_revoked_keys_never_come_again_and_new_ones_may(self, fed, tmp_path, renewing):
        kit_for(fed, tmp_path / "home")
        revoke(fed, "north", "stolen")
        for renew in (False, True):
            with pytest.raises(KeyRevoked, match="FL-754"):
                kit_for(fed, tmp_path / "home", renew=renew)
        record = renewed(fed, tmp_path / "home", renew=renewing).record
        assert record.revoked is None
        assert [one.public_key for one in load_federation(fed).couriers] == [record.courier_key]

    @pytest.mark.parametrize("times", [0, 2])
    def test_what_is_not_enrolled_cannot_be_revoked(self, fed, tmp_path, times):
        if times:
            kit_for(fed, tmp_path / "home")
            revoke(fed, "north", "left")
        with pytest.raises(NotEnrolled, match="FL-755"):
            revoke(fed, "north", "left")


class TestLooking:
    def rows(self, fed, days=0.0, soon=14):
        return {row.site: row for row in site_rows(load_federation(fed), utc_now() + timedelta(days=days), soon)}

    def test_each_site_has_its_state(self, fed, tmp_path):
        for site, days in (("north", 100), ("south", 10)):
            kit_for(fed, tmp_path / site, site, days=days)
        rows = self.rows(fed)
        assert {site: row.state for site, row in rows.items()} == {
            "north": "kit issued",
            "south": "expires",
            "west": "invited",
        }
        assert [rows["south"].attention, rows["north"].attention, rows["west"].attention] == [True, False, False]
        assert self.rows(fed, days=11)["south"].state == "expired"
        revoke(fed, "south", "left")
        assert self.rows(fed, days=11)["south"].state == "revoked"

    def test_the_coordinators_own_certificates_stand_there_when_they_end_soon(self, fed):
        assert "(server)" not in self.rows(fed)
        assert self.rows(fed, days=355)["(server)"].state == "expires"
        assert self.rows(fed, days=3660)["(authority)"].state == "expired"

    def test_an_enrolled_site_that_the_study_no_longer_names_is_still_shown(self, fed, tmp_path):
        kit_for(fed, tmp_path / "home")
        found(fed, study=small_study(sites=[{"name": name, "role": "train"} for name in ("south", "west", "east")]))
        row = self.rows(fed)["north"]
        assert not row.in_study and row.stale == ("study",)
