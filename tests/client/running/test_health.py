"""Healthy means registered, approved and able to train; each thing that is missing is a line with what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import datetime, timedelta

import pytest
from typer.testing import CliRunner

from federations import digests, small_study
from fedloupe.certificates import utc_now
from fedloupe_client.cli import app
from fedloupe_client.courier.state import STATE_FILE as COURIERS_STATE_FILE
from fedloupe_client.gate.decisions import pause, resume, withdraw
from fedloupe_client.health import CONTACT_S, FRESH_S, STATE_FILE, courier_missing, site_missing
from fedloupe_client.site.server import SiteSilent, alive, ask


def health(*arguments):
    done = CliRunner().invoke(app, ["health", *map(str, arguments)], env={"COLUMNS": "300"})
    return done.exit_code, done.stdout.splitlines()


def both(hospital, *more):
    return health(hospital.home, hospital.courier, "--socket", hospital.socket, *more)


def missing(hospital, days=0.0, now=None):
    now = (now or utc_now()) + timedelta(days=days)
    return {
        **{one.name: one for one in site_missing(hospital.home, hospital.socket, now)},
        **{f"courier: {one.name}": one for one in courier_missing(hospital.courier, now)},
    }


class TestHealthy:
    def test_a_hospital_in_which_everything_works_is(self, hospital):
        assert both(hospital) == (0, ["healthy: able to train"])
        assert json.loads("\n".join(both(hospital, "--json")[1])) == {"healthy": True, "missing": []}

    def test_looking_changes_no_file_of_the_hospital(self, hospital):
        before = digests(hospital.home), digests(hospital.courier)
        both(hospital)
        assert (digests(hospital.home), digests(hospital.courier)) == before

    def test_a_site_that_works_for_long_is_healthy_meanwhile(self, hospital):
        hospital.stop_site()
        begun, go = threading.Event(), threading.Event()
        hospital.start_site(lambda blob: (begun.set(), go.wait(30.0), blob)[-1])
        asking = threading.Thread(target=ask, args=(hospital.socket, b"a round", 30.0))
        asking.start()
        assert begun.wait(10.0)
        assert both(hospital)[0] == 0
        go.set()
        asking.join()


class TestWhatIsMissing:
    def test_no_approved_study(self, hospital):
        withdraw(hospital.home, small_study().fingerprint, by="Dr Ito")
        code, lines = both(hospital)
        assert code == 1 and len(lines) == 1
        assert lines[0].startswith("no study is approved: ") and "fedloupe-site approve" in lines[0]

    def test_a_paused_site_and_after_resuming_nothing(self, hospital):
        pause(hospital.home, by="Dr Roy")
        code, lines = both(hospital)
        assert code == 1 and len(lines) == 1 and "by Dr Roy" in lines[0] and "resume" in lines[0]
        resume(hospital.home, by="Dr Roy")
        assert both(hospital)[0] == 0

    def test_a_site_process_that_does_not_answer(self, hospital):
        hospital.stop_site()
        code, lines = both(hospital)
        assert code == 1 and len(lines) == 1 and "fedloupe-site start" in lines[0]

    def test_a_policy_with_a_mistake_which_refuses_everything(self, hospital):
        (hospital.home / "policy.yaml").write_text("no_such_key: 1\n")
        assert set(missing(hospital)) == {"FL-506"}

    def test_an_expired_kit_is_told_by_both_parts(self, hospital):
        assert set(missing(hospital, days=364)) == {"courier: courier"}, "a year is not over, though the state is old"
        assert {"kit", "courier: kit"} <= set(missing(hospital, days=366))
        assert "join again" in missing(hospital, days=366)["kit"].do

    def test_no_kit_at_all(self, hospital):
        (hospital.home / "kit.json").unlink()
        (hospital.courier / "courier.json").unlink()
        assert set(missing(hospital)) == {"kit", "courier: FL-678"}

    def test_a_flower_home_that_was_not_made(self, hospital):
        (hospital.courier / "flower").chmod(0o700)
        (hospital.courier / "flower" / "approved").unlink()
        assert set(missing(hospital)) == {"courier: bundle"}

    @pytest.mark.parametrize(
        ("state", "code", "words"),
        [
            ("starting", None, "the courier is starting"),
            ("waiting", "FL-672", "the courier is waiting: FL-672"),
            ("refused", "FL-671", "the courier is refused: FL-671"),
            ("failed", "FL-677", "the courier is failed: FL-677"),
            ("stopped", None, "the courier does not run"),
        ],
    )
    def test_a_courier_that_is_not_online(self, hospital, state, code, words):
        hospital.courier_is("online")
        hospital.courier_is(state, code, "title")
        found = missing(hospital)
        assert set(found) == {"courier: courier"} and found["courier: courier"].what.startswith(words)

    def test_a_courier_that_was_online_before_it_was_killed(self, hospital):
        state = json.loads((hospital.courier / "state" / STATE_FILE).read_text())
        last = datetime.fromisoformat(state["written"]) + timedelta(seconds=FRESH_S)
        assert missing(hospital, now=last) == {}
        assert "does not run" in missing(hospital, now=last + timedelta(seconds=1))["courier: courier"].what

    def test_a_coordinator_that_has_not_answered_for_minutes(self, hospital):
        path = hospital.courier / "state" / STATE_FILE
        state, now = json.loads(path.read_text()), utc_now()
        for age, found in ((CONTACT_S - 10, set()), (CONTACT_S + 10, {"courier: courier"})):
            then = (now - timedelta(seconds=age)).isoformat()
            path.write_text(json.dumps({**state, "last_contact": then}))
            assert set(missing(hospital, now=now)) == found
        path.write_text(json.dumps({**state, "last_contact": None}))
        assert "not answered" in missing(hospital)["courier: courier"].what

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "online"}'])
    def test_a_state_that_cannot_be_read(self, hospital, content):
        (hospital.courier / "state" / STATE_FILE).write_text(content)
        assert "cannot be read" in missing(hospital)["courier: courier"].what

    def test_a_courier_that_never_ran(self, hospital):
        (hospital.courier / "state" / STATE_FILE).unlink()
        assert "never ran" in missing(hospital)["courier: courier"].what

    def test_several_things_are_several_lines(self, hospital):
        hospital.stop_site()
        pause(hospital.home, by="Dr Roy")
        hospital.courier_is("waiting", "FL-672", "away")
        code, lines = both(hospital)
        assert (code, len(lines)) == (1, 3)
        named = json.loads("\n".join(both(hospital, "--json")[1]))
        assert [one["name"] for one in named["missing"]] == ["paused", "site", "courier"]

    def test_the_state_is_looked_for_where_the_courier_writes_it(self):
        assert STATE_FILE == COURIERS_STATE_FILE


class TestParts:
    def test_the_sites_container_sees_no_courier(self, hospital):
        hospital.courier_is("refused", "FL-671", "refused")
        assert health(hospital.home, "--part", "site", "--socket", hospital.socket)[0] == 0
        pause(hospital.home, by="Dr Roy")
        assert health(hospital.home, "--part", "site", "--socket", hospital.socket)[0] == 1

    def test_the_couriers_container_sees_no_home(self, hospital):
        hospital.stop_site()
        assert health(hospital.courier, "--part", "courier") == (0, ["healthy: the courier is online"])
        hospital.courier_is("waiting", "FL-672", "away")
        assert health(hospital.courier, "--part", "courier")[0] == 1

    @pytest.mark.parametrize("more", [["x"], ["x", "y", "--part", "site"], ["x", "y", "z"]])
    def test_folders_that_do_not_fit_the_part_are_a_mistake_of_the_command(self, more):
        assert health(*more)[0] == 2


WITHOUT_PRIVILEGE = """
import ctypes, sys
header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
if ctypes.CDLL(None, use_errno=True).capset(header, none):
    raise OSError(ctypes.get_errno(), "capset")
from fedloupe_client.cli import app
app(sys.argv[1:])
"""


class TestAnotherUser:
    """Run by a process that gave up root's privileges (capabilities(7)), where the tests run as root."""

    @pytest.mark.parametrize(("locked", "words"), [("socket", "may not use"), ("home", "cannot read")])
    def test_is_told_that_it_may_not_look_and_not_that_nothing_is_there(self, hospital, locked, words):
        path = getattr(hospital, locked)
        before = path.stat().st_mode
        path.chmod(0)
        asked = ["health", str(hospital.home), "--part", "site", "--socket", str(hospital.socket)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "300"}
        try:
            done = subprocess.run(
                [sys.executable, "-c", WITHOUT_PRIVILEGE, *asked], env=env, capture_output=True, text=True, check=False
            )
        finally:
            path.chmod(before)
        assert done.returncode == 1, done.stderr
        assert done.stdout.startswith(f"this user {words} {path}: run it as the site") and done.stdout.count("\n") == 1


class TestAlive:
    def test_it_asks_nothing_of_the_handler(self, hospital):
        hospital.stop_site()
        asked = []
        hospital.start_site(lambda blob: (asked.append(blob), blob)[-1])
        alive(hospital.socket)
        assert asked == []

    def test_nobody_there_is_told_at_once(self, hospital):
        hospital.stop_site()
        with pytest.raises(SiteSilent):
            alive(hospital.socket, 2.0)
