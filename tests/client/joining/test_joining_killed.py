"""A renewal with new keys, killed at each of its steps: the old kit is in force, or the new one, never some of both."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from federations import found, install, kit_for, small_study
from fedloupe.certificates import check_certificate, read_authority, utc_now
from fedloupe.enrolment import openssh
from fedloupe.signing import Signer
from fedloupe_client.gate import trusted, verify
from fedloupe_client.joining import finish, initialise, installed
from fedloupe_client.joining.keys import load_courier_key
from fedloupe_server.provision import enrol


@pytest.fixture
def renewal(fed, tmp_path, monkeypatch):
    """A home with kit 1, and kit 2 with other keys, study and address, and a coordinator who took another name."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    home = tmp_path / "home"
    install(fed, home, kit_for(fed, home).kit)
    found(fed, study=small_study(seed=9), address="new.example.org:443", name="Renamed")
    kit = enrol(fed, initialise(home, "north", home / "courier", new_keys=True), renew=True).kit
    return home, kit


def killed(step, act):
    """Run `act` in a process that dies at its `step`th rename; its exit code."""
    child = os.fork()
    if child == 0:
        real, left = os.replace, [step]

        def replace(source, target):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            real(source, target)

        os.replace = replace
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_force(home):
    """The number of the kit in force; everything else must be of that kit."""
    kit = installed(home)
    authority = read_authority((home / "gate" / "authority.pem").read_text(), utc_now())
    identity = check_certificate((home / "gate" / "certificate.pem").read_text(), authority, utc_now())
    assert identity.key == Signer.load(home / "gate" / "site.key").public
    courier = openssh(load_courier_key(home / "courier" / "courier.key").public_key())
    assert (home / "courier" / "courier.pub").read_text().strip() == courier
    expected = small_study() if kit.number == 1 else small_study(seed=9)
    assert (home / "study.json").read_text() == expected.canonical + "\n"
    assert kit.fingerprint == expected.fingerprint
    assert kit.address == ("fl.example.org:443" if kit.number == 1 else "new.example.org:443")
    assert [one.name for one in trusted(home).values()] == ["Coordinating Hospital" if kit.number == 1 else "Renamed"]
    assert (home / "gate" / "site.key.new").exists() == (kit.number == 1)
    assert verify(home) == []
    return kit.number


class TestKilled:
    def test_at_any_rename_one_kit_is_in_force_and_joining_again_completes(self, fed, renewal, tmp_path):
        home, kit = renewal
        kept, found_in_force = shutil.copytree(home, tmp_path / "kept"), []
        for step in range(60):
            shutil.rmtree(home)
            shutil.copytree(kept, home)
            code = killed(step, lambda: install(fed, home, kit))
            finish(home)
            found_in_force.append(in_force(home))
            if code == 0:
                break
            assert code == 9
            if found_in_force[-1] == 1:
                install(fed, home, kit)
            assert in_force(home) == 2
            leftovers = [path.name for path in home.rglob(".*") if not path.name.endswith(".part")]
            assert leftovers == []
        assert code == 0, "it came to its end"
        decided = found_in_force.index(2)
        assert found_in_force == [1] * decided + [2] * (len(found_in_force) - decided)
        assert 8 <= decided < len(found_in_force) - 8, "it was killed before and after the decision, many times"

    def test_who_looks_while_a_kit_is_installed_waits_for_its_end(self, fed, renewal, monkeypatch):
        """A site process that starts in this moment must not move the same files."""
        home, kit = renewal
        real = os.replace

        def slowly(source, target):
            time.sleep(0.02)
            real(source, target)

        monkeypatch.setattr(os, "replace", slowly)
        with ThreadPoolExecutor(1) as pool:
            joining = pool.submit(install, fed, home, kit)
            looks = 0
            while not joining.done():
                finish(home)
                looks += 1
        assert joining.result().number == 2 and looks > 3
        assert in_force(home) == 2

    def test_a_second_kill_while_completing_does_no_harm(self, fed, renewal):
        home, kit = renewal
        decided = 12
        assert killed(decided, lambda: install(fed, home, kit)) == 9
        for _ in range(3):
            assert killed(1, lambda: finish(home)) in (0, 9)
        finish(home)
        assert in_force(home) == 2
