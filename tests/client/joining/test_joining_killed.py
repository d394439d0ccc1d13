"""A renewal with new keys, killed at each of its steps: the old kit is in force, or the new one, never some of both."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from federations import digests, found, install, kit_for, small_study
from fedloupe.certificates import check_certificate, read_authority, utc_now
from fedloupe.enrolment import openssh
from fedloupe.signing import Signer, spoken
from fedloupe_client.cli import app
from fedloupe_client.gate import trusted, verify
from fedloupe_client.gate.signed import check_signed, sign_head
from fedloupe_client.health import site_missing
from fedloupe_client.joining import finish, initialise, installed
from fedloupe_client.joining.errors import KitNotInstalled
from fedloupe_client.joining.installed import interrupted
from fedloupe_client.joining.keys import load_courier_key
from fedloupe_server.provision import enrol

SITE = """site: north
source: {format: table, root: ., clinical: {file: a.csv}, features: a.csv}
"""


@pytest.fixture
def renewal(fed, tmp_path, monkeypatch):
    """A home with kit 1, and kit 2 with other keys, study and address, and a coordinator who took another name."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    home = tmp_path / "home"
    install(fed, home, kit_for(fed, home).kit)
    sign_head(home)
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
    assert (home / "gate" / "site.key.1.pub").exists() == (kit.number == 2)
    assert verify(home) == [] and check_signed(home) == []
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


@pytest.fixture(params=[0, 7, 99], ids=lambda renames: f"{renames} renames later")
def half_done(request, fed, renewal, monkeypatch):
    """The renewal, killed after it was decided, so many renames later; 99: all were done, and this not yet noted."""
    home, kit = renewal
    monkeypatch.setattr(Path, "unlink", ending(Path.unlink, lambda path: path.name == "joining.json"))
    real = os.replace

    def begin(source, target):
        real(source, target)
        if Path(target).name == "joining.json":
            later = iter(range(request.param))
            os.replace = ending(real, lambda *_: next(later, None) is None)

    assert killed(1000, lambda: (setattr(os, "replace", begin), install(fed, home, kit))) == 9
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    assert interrupted(home)
    return home


def ending(function, when):
    """The function, in a process that dies instead of calling it with certain arguments."""

    def call(*arguments, **named):
        if when(*arguments):
            os._exit(9)
        return function(*arguments, **named)

    return call


class TestDistrusting:
    def test_is_the_last_word_also_where_a_join_was_killed(self, half_done):
        (half_done / "site.yaml").write_text(SITE)
        key = installed(half_done).coordinator_key
        done = CliRunner().invoke(app, ["distrust", str(half_done), spoken(key), "--by", "Dr Ito"])
        assert done.exit_code == 0, done.output
        assert not finish(half_done) and trusted(half_done) == {}
        assert installed(half_done).number == 2


class TestWithoutTheCouriersFolder:
    """As in the site's container, which finishes what `join` began in another one."""

    @pytest.fixture(params=["absent", "empty", "of another pair of keys"])
    def hidden(self, half_done, tmp_path, request):
        """Where the courier's folder is meanwhile."""
        folder, away = half_done / "courier", tmp_path / "away"
        folder.rename(away)
        if request.param != "absent":
            folder.mkdir()
        if request.param == "of another pair of keys":
            initialise(tmp_path / "other", "north", folder)
            for name in ("ca.crt", "fedloupe.fab", "courier.json"):
                (folder / name).write_text("another")
        return away

    def test_nothing_is_changed_and_the_folder_is_named(self, half_done, hidden):
        before = digests(half_done)
        with pytest.raises(KitNotInstalled, match=rf"FL-658.*{half_done}/courier.*both folders") as refused:
            finish(half_done)
        assert str(half_done / "gate" / "joining.json") in str(refused.value), "what to do where it is lost"
        assert digests(half_done) == before
        shutil.rmtree(half_done / "courier", ignore_errors=True)
        hidden.rename(half_done / "courier")
        assert finish(half_done)
        assert in_force(half_done) == 2 and not interrupted(half_done)

    def test_no_command_goes_on_and_each_says_why(self, half_done, hidden, tmp_path):
        (half_done / "site.yaml").write_text(SITE)
        before = digests(half_done)
        (tmp_path / "kit").write_text("")
        for words in (
            ["start", half_done],
            ["status", half_done],
            ["init", half_done, "north"],
            ["join", half_done, tmp_path / "kit", "--by", "Dr Ito"],
        ):
            done = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "300"})
            assert done.exit_code == 1 and "FL-658" in done.output and "both folders" in done.output, words
        assert "joining" in {one.name for one in site_missing(half_done, tmp_path / "site.sock", utc_now())}
        assert digests(half_done) == before

    def test_distrust_holds_and_the_join_trusts_nobody_when_it_is_completed(self, half_done, hidden):
        (half_done / "site.yaml").write_text(SITE)
        (key,) = trusted(half_done)
        done = CliRunner().invoke(app, ["distrust", str(half_done), spoken(key), "--by", "Dr Ito"])
        assert done.exit_code == 0 and "FL-658" in done.output and "trust nobody" in done.output
        assert trusted(half_done) == {}
        shutil.rmtree(half_done / "courier", ignore_errors=True)
        hidden.rename(half_done / "courier")
        assert finish(half_done) and trusted(half_done) == {}
        assert installed(half_done).number == 2

    def test_a_finished_one_is_no_line_of_health(self, half_done, tmp_path):
        finish(half_done)
        assert "joining" not in {one.name for one in site_missing(half_done, tmp_path / "site.sock", utc_now())}
